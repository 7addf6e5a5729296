"""What Tortoise's models cannot say about the index tables: partial indexes, search indexes, the append-only audit.

`aegate_core.database.migrate` runs these after the migrations, each time: every statement is safe to repeat.
"""

from __future__ import annotations

from aegate_core.database.declared import trigger, words

_BOTH = (
    "CREATE INDEX IF NOT EXISTS close_unit_open ON close_unit (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS close_unit_no_route ON close_unit (closed_at) WHERE outcome = 'NO_ROUTE'",
    "CREATE INDEX IF NOT EXISTS conflict_open ON conflict (created_at, id) WHERE resolved_at IS NULL",
    "CREATE INDEX IF NOT EXISTS quarantine_open ON quarantined_object (created_at) WHERE resolved_at IS NULL",
    "CREATE INDEX IF NOT EXISTS quarantine_released ON quarantined_object (released_at) "
    "WHERE released_at IS NOT NULL AND resolved_at IS NULL",
    'CREATE INDEX IF NOT EXISTS study_by_uid ON study (study_instance_uid COLLATE "C")',
    'CREATE INDEX IF NOT EXISTS study_by_date ON study (study_date COLLATE "C", id)',
    'CREATE INDEX IF NOT EXISTS study_by_patient_name ON study (patient_sort_name COLLATE "C", id)',
    'CREATE INDEX IF NOT EXISTS application_entity_by_name ON application_entity (name COLLATE "C", id)',
    'CREATE INDEX IF NOT EXISTS image_route_by_name ON image_route (name COLLATE "C", id)',
    'CREATE INDEX IF NOT EXISTS patient_partition_by_name ON patient_partition (name COLLATE "C", id)',
    "CREATE INDEX IF NOT EXISTS conflict_newest ON conflict (created_at, id)",
    "CREATE INDEX IF NOT EXISTS study_of_patient ON study (patient_id, id)",
    "CREATE INDEX IF NOT EXISTS patient_by_id ON patient (patient_id)",
    "CREATE INDEX IF NOT EXISTS study_age ON study (partition, last_arrival_at, id)",
    "CREATE INDEX IF NOT EXISTS arrival_here ON arrival (study_id) WHERE removed_at IS NULL",
    "CREATE INDEX IF NOT EXISTS arrival_to_remove ON arrival (id) WHERE removed_at IS NOT NULL AND blob_key <> ''",
    "CREATE UNIQUE INDEX IF NOT EXISTS audit_outcome_once ON audit_event (intent_id) WHERE intent_id IS NOT NULL",
    "CREATE UNIQUE INDEX IF NOT EXISTS audit_origin_once ON audit_event (origin) WHERE origin IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS audit_intents ON audit_event (id) WHERE outcome = 'INTENT'",
)

_MARK = (
    "INSERT INTO installation (id, mark) SELECT 1, COALESCE((SELECT min(id) FROM arrival), {random}) WHERE true "
    "ON CONFLICT (id) DO NOTHING"
)
"""By its first arrival, whose row stays for ever: a backup older than this table is of the same installation."""

_SORT_NAME = "substr({text}, 1, 128)"
"""As long as the column; an index of PostgreSQL takes 2,700 bytes, and devices may send names of more."""

_POSTGRES = (
    _MARK.format(random="replace(gen_random_uuid()::text, '-', '')"),
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX IF NOT EXISTS study_search ON study USING gin (search_text gin_trgm_ops)",
    # By a sample of a hundred texts a family name that is in one of them is in a hundredth of all studies: the newest
    # ones are walked through then, until fifty of it are found, for seconds. In force with the next ANALYZE.
    "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = 'study'::regclass "
    "AND attname = 'search_text' AND attstattarget = 3000) THEN "
    "ALTER TABLE study ALTER COLUMN search_text SET STATISTICS 3000; END IF; END $$",
    # Locked, so that whoever renames the patient meanwhile waits, and then finds this study, too.
    f"""
    CREATE OR REPLACE FUNCTION study_takes_sort_name() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        SELECT {_SORT_NAME.format(text="search_text")} INTO NEW.patient_sort_name FROM patient
        WHERE id = NEW.patient_id FOR SHARE;
        NEW.patient_sort_name := COALESCE(NEW.patient_sort_name, '');
        RETURN NEW;
    END $$
    """,
    trigger(
        "study_sort_name",
        "BEFORE INSERT OR UPDATE OF patient_id",
        "study",
        "FOR EACH ROW EXECUTE FUNCTION study_takes_sort_name()",
    ),
    f"""
    CREATE OR REPLACE FUNCTION patient_gives_sort_name() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE study SET patient_sort_name = {_SORT_NAME.format(text="NEW.search_text")} WHERE patient_id = NEW.id;
        RETURN NULL;
    END $$
    """,
    trigger(
        "patient_sort_name",
        "AFTER UPDATE OF search_text",
        "patient",
        "FOR EACH ROW WHEN (OLD.search_text IS DISTINCT FROM NEW.search_text) "
        "EXECUTE FUNCTION patient_gives_sort_name()",
    ),
    """
    CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'audit_event is append-only'; END $$
    """,
    trigger(
        "audit_event_append_only",
        "BEFORE UPDATE OR DELETE OR TRUNCATE",
        "audit_event",
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ),
    """
    CREATE OR REPLACE FUNCTION audit_waits_for_collector() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM audit_collector) THEN INSERT INTO audit_outbox (id) VALUES (NEW.id); END IF;
        RETURN NULL;
    END $$
    """,
    trigger(
        "audit_event_to_collector",
        "AFTER INSERT",
        "audit_event",
        "FOR EACH ROW EXECUTE FUNCTION audit_waits_for_collector()",
    ),
)

_TAKE_SORT_NAME = (
    f"UPDATE study SET patient_sort_name = COALESCE((SELECT {_SORT_NAME.format(text='p.search_text')} "
    "FROM patient p WHERE p.id = new.patient_id), '') WHERE id = new.id;"
)
_SQLITE = (
    _MARK.format(random="lower(hex(randomblob(16)))"),
    *words("study", "study_words"),
    f"CREATE TRIGGER IF NOT EXISTS study_sort_name_insert AFTER INSERT ON study BEGIN {_TAKE_SORT_NAME} END",
    "CREATE TRIGGER IF NOT EXISTS study_sort_name_update AFTER UPDATE OF patient_id ON study "
    f"WHEN old.patient_id IS NOT new.patient_id BEGIN {_TAKE_SORT_NAME} END",
    "CREATE TRIGGER IF NOT EXISTS patient_sort_name AFTER UPDATE OF search_text ON patient "
    "WHEN old.search_text IS NOT new.search_text BEGIN "
    f"UPDATE study SET patient_sort_name = {_SORT_NAME.format(text='new.search_text')} WHERE patient_id = new.id; END",
    """
    CREATE TRIGGER IF NOT EXISTS audit_event_no_update BEFORE UPDATE ON audit_event
    BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS audit_event_no_delete BEFORE DELETE ON audit_event
    BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS audit_event_to_collector AFTER INSERT ON audit_event
    WHEN EXISTS (SELECT 1 FROM audit_collector)
    BEGIN INSERT INTO audit_outbox (id) VALUES (NEW.id); END
    """,
)


OBSOLETE = ("DROP INDEX IF EXISTS study_uid",)
"""What earlier versions made: dropped last of all, because that locks a table against all who read it."""


def statements(dialect: str) -> tuple[str, ...]:
    """Return the statements for ``sqlite`` or ``postgres``, in order."""
    return _BOTH + (_POSTGRES if dialect == "postgres" else _SQLITE)
