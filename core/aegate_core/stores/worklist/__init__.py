"""The worklist: what is scheduled, for whom, when and on which device."""
