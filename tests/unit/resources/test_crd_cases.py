"""What the CRDs accept and refuse: the cases that the drafts were tried with on an API server, and more."""

from __future__ import annotations

import pytest

from tests.unit.resources.builders import Manifest, ae, manifest, partition, resource, route, validate

ACCEPTED: dict[str, Manifest] = {
    "minimal": ae(),
    "title of one character": ae("x"),
    "title of 16 characters": ae("a234567890123456"),
    "title with underscore": ae("ct-1", title="CT_1"),
    "title with blank and dot": ae("ct-1-a", title="CT 1.A"),
    "title in mixed case": ae("ct1", title="Ct1"),
    "title with other characters has any name": ae("whatever", title="CT#1"),
    "IPv6 node": ae(node="2001:db8::1"),
    "loopback node": ae(node="127.0.0.1"),
    "loopback node in IPv6": ae(node="::1"),
    "link-local node": ae(node="169.254.1.2"),
    "link-local node in IPv6": ae(node="fe80::1"),
    "last node below multicast": ae(node="223.255.255.255"),
    "host name with ranges": ae(node="ct1.example.org", sourceRanges=["10.0.0.0/8"]),
    "host name without network policy": ae(node="ct1", networkPolicy="Disabled"),
    "several ranges": ae(sourceRanges=["10.0.0.0/8", "2001:db8::/32", "10.1.2.3/32"]),
    "port 1": ae(port=1),
    "port 65535": ae(port=65535),
    "ISCL port of the device": ae(port=2761),
    "every route level": ae(routeLevel="Image"),
    "route level None": ae(routeLevel="None"),
    "max connections 64": ae(maxConnections=64),
    "empty push": ae(push={}),
    "push whole": ae(
        push={
            "reconcilePatientData": "NameAndMR",
            "reconcileAccessionNumber": "DocumentID",
            "priority": 0,
            "storageCommitment": True,
            "callingTitle": "AEGATE",
            "tls": {"verifyHostname": False, "serverName": "pacs"},
            "compression": {"mode": "Lossy", "quality": 90},
        }
    ),
    "lossless compression": ae(push={"compression": {"mode": "Lossless"}}),
    "printer": ae(ability="Print"),
    "printer whole": ae(
        ability="Print",
        print={
            "displayFormat": "STANDARD\\2,3",
            "filmSize": "14INX17IN",
            "orientation": "LANDSCAPE",
            "medium": "BLUE FILM",
            "copies": 99,
            "color": True,
            "callingTitle": "AEGATE",
        },
    ),
    "study times": ae(study={"quietPeriodSeconds": 1, "maxAgeSeconds": 604800}),
    "timeouts": ae(timeouts={"connectSeconds": 600}),
    "listener port": ae(listener={"port": 11115}),
    "listener 2762 with tls": ae(listener={"port": 2762, "tls": {"secretName": "s"}}),
    "shared listener": ae(listener={"mode": "Shared", "pool": "main"}),
    "no listener": ae(listener={"mode": "None"}),
    "node port": ae(listener={"serviceType": "NodePort", "nodePort": 30104}),
    "EmptyDir with Indexed": ae(listener={"spool": {"type": "EmptyDir"}, "acknowledge": "Indexed"}),
    "claim whole": ae(
        listener={
            "spool": {
                "type": "PersistentVolumeClaim",
                "accessMode": "ReadWriteOnce",
                "storageClassName": "fast",
                "size": "20Gi",
            },
            "replicas": 1,
        }
    ),
    "extra SOP classes": ae(listener={"extraSOPClasses": ["1.2.840.113619.4.30"]}),
    "pod": ae(
        listener={
            "pod": {
                "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "256Mi"}},
                "nodeSelector": {"zone": "a"},
                "priorityClassName": "high",
                "tolerations": [{"key": "dicom", "operator": "Exists", "effect": "NoSchedule"}],
            }
        }
    ),
    "route minimal": route(),
    "route whole": route(
        source={
            "aes": ["ct1"],
            "selector": {"matchLabels": {"a": "b"}},
            "partitions": ["default"],
            "locations": ["ER"],
            "documentTypes": ["CT"],
            "modalities": ["CT", "MR"],
            "elements": [
                {"keyword": "StudyDescription", "op": "Contains", "values": ["x"]},
                {"keyword": "BodyPartExamined", "op": "Exists"},
            ],
        },
        level="Series",
        priority=100,
        onDuplicate="Redeliver",
        enabled=False,
        comment="c",
    ),
    "partition minimal": partition(),
    "partition whole": partition(
        displayName="d",
        issuerOfPatientID="I",
        retention={
            "images": {"days": 1, "requireDelivered": False, "requireCommitted": True},
            "finishedDeliveries": {"days": 36500},
            "audit": {"days": 1},
        },
    ),
    "partition with a name of 63": partition("p" * 63),
}

REFUSED: dict[str, tuple[Manifest, str, str]] = {
    "no title": (ae(title=None), "spec.title", "required"),
    "no node": (ae(node=None), "spec.node", "required"),
    "no port": (ae(port=None), "spec.port", "required"),
    "no spec": ({k: v for k, v in ae().items() if k != "spec"}, "spec", "required"),
    "empty title": (ae("x", title=""), "spec.title", "at least 1 character"),
    "title of 17 characters": (
        ae("x", title="A2345678901234567"),
        "spec.title",
        "expected at most 16 characters, got 17: shorten it",
    ),
    "blank title": (ae("x", title="  "), "spec.title", "may not be blank"),
    "title with a space in front": (ae("x", title=" CT"), "spec.title", "start or end with a space"),
    "title with backslash": (ae("x", title="CT\\1"), "spec.title", "printable ASCII without backslash"),
    "title with umlaut": (ae("x", title="CTÄ"), "spec.title", "printable ASCII"),
    "title with a control character": (ae("x", title="C\x01T"), "spec.title", "printable ASCII"),
    "title as a number": (ae("x", title=12), "spec.title", "put it in quotes"),
    "name that is not the title": (ae("ct1", title="CT2"), "", "metadata.name must be ct2"),
    "name with another separator": (ae("ct1", title="CT_1"), "", "metadata.name must be ct-1"),
    "node 10.1.2.300": (
        ae(node="10.1.2.300", networkPolicy="Disabled"),
        "spec.node",
        "IPv4 or IPv6 address or a DNS name",
    ),
    "node with capitals": (ae(node="CT1.example.org", sourceRanges=["10.0.0.0/8"]), "spec.node", "DNS name"),
    "node with port": (ae(node="10.1.2.3:104", networkPolicy="Disabled"), "spec.node", "DNS name"),
    "node with zone": (ae(node="fe80::1%eth0", networkPolicy="Disabled"), "spec.node", "DNS name"),
    "node not canonical": (ae(node="2001:DB8::1"), "spec.node", "canonical"),
    "node with leading zero": (ae(node="010.1.2.3", networkPolicy="Disabled"), "spec.node", "DNS name"),
    "unspecified node": (ae(node="0.0.0.0"), "spec.node", "unspecified"),
    "unspecified IPv6 node": (ae(node="::"), "spec.node", "unspecified"),
    "multicast node": (ae(node="224.0.0.5"), "spec.node", "multicast"),
    "multicast node beyond one link": (ae(node="224.1.2.3"), "spec.node", "multicast"),
    "multicast node of an organisation": (ae(node="239.1.2.3"), "spec.node", "multicast"),
    "multicast node in IPv6": (ae(node="ff02::1"), "spec.node", "multicast"),
    "multicast node in IPv6 beyond one link": (ae(node="ff0e::1"), "spec.node", "multicast"),
    "broadcast node": (ae(node="255.255.255.255"), "spec.node", "broadcast"),
    "host name without ranges": (
        ae(node="ct1.example.org"),
        "spec.sourceRanges",
        "is needed when node is a host",
    ),
    "port 0": (ae(port=0), "spec.port", "at least 1"),
    "port 65536": (ae(port=65536), "spec.port", "at most 65535"),
    "port as text": (ae(port="104"), "spec.port", "take the quotes away"),
    "port as boolean": (ae(port=True), "spec.port", "expected an integer, got the boolean true"),
    "port beyond 32 bits": (ae(port=2**40), "spec.port", "32-bit"),
    "port with a fraction": (ae(port=104.5), "spec.port", "expected an integer"),
    "null node": ({**ae(), "spec": {"title": "CT1", "node": None, "port": 1}}, "spec.node", "required"),
    "range with host bits": (ae(sourceRanges=["10.1.2.3/24"]), "spec.sourceRanges[0]", "host bits"),
    "range without prefix": (ae(sourceRanges=["10.1.2.3"]), "spec.sourceRanges[0]", "must be a CIDR"),
    "range twice": (ae(sourceRanges=["10.0.0.0/8", "10.0.0.0/8"]), "spec.sourceRanges[1]", "every item once"),
    "17 ranges": (
        ae(sourceRanges=[f"10.{n}.0.0/16" for n in range(17)]),
        "spec.sourceRanges",
        "at most 16 items",
    ),
    "unknown field": (ae(prot=1), "spec.prot", "did you mean port?"),
    "unknown field in another case": (ae(sourceranges=[]), "spec.sourceranges", "did you mean sourceRanges?"),
    "unknown field below": (ae(listener={"verifyNodes": True}), "spec.listener.verifyNodes", "verifyNode?"),
    "unknown ability": (ae(ability="Pull"), "spec.ability", "one of Push, Print"),
    "Off for an enumeration": (ae(ability=False), "spec.ability", "put it in quotes"),
    "level in lower case": (ae(routeLevel="study"), "spec.routeLevel", "did you mean Study?"),
    "max connections 0": (ae(maxConnections=0), "spec.maxConnections", "at least 1"),
    "max connections 65": (ae(maxConnections=65), "spec.maxConnections", "at most 64"),
    "push on a printer": (ae(ability="Print", push={}), "spec.push", "only with ability Push"),
    "print on a receiver": (ae(print={}), "spec.print", "only with ability Print"),
    "priority 101": (ae(push={"priority": 101}), "spec.push.priority", "at most 100"),
    "calling title with backslash": (
        ae(push={"callingTitle": "A\\B"}),
        "spec.push.callingTitle",
        "valid AE title",
    ),
    "lossy without quality": (
        ae(push={"compression": {"mode": "Lossy"}}),
        "spec.push.compression.quality",
        "Lossy",
    ),
    "lossless with quality": (
        ae(push={"compression": {"mode": "Lossless", "quality": 90}}),
        "spec.push.compression.quality",
        "only with it (got the integer 90)",
    ),
    "quality 0": (
        ae(push={"compression": {"mode": "Lossy", "quality": 0}}),
        "spec.push.compression.quality",
        "least 1",
    ),
    "compression without mode": (ae(push={"compression": {}}), "spec.push.compression.mode", "required"),
    "display format": (
        ae(ability="Print", print={"displayFormat": "ROW\\2"}),
        "spec.print.displayFormat",
        "matches",
    ),
    "100 copies": (ae(ability="Print", print={"copies": 100}), "spec.print.copies", "at most 99"),
    "quiet period 0": (ae(study={"quietPeriodSeconds": 0}), "spec.study.quietPeriodSeconds", "at least 1"),
    "listener on the ISCL port": (ae(listener={"port": 2761}), "spec.listener.port", "ISCL"),
    "2762 without tls": (ae(listener={"port": 2762}), "spec.listener.tls", "set tls"),
    "node port without service type": (
        ae(listener={"nodePort": 30104}),
        "spec.listener.nodePort",
        "serviceType",
    ),
    "node port of a ClusterIP": (
        ae(listener={"nodePort": 30104, "serviceType": "ClusterIP"}),
        "spec.listener.nodePort",
        "serviceType",
    ),
    "node port 104": (
        ae(listener={"nodePort": 104, "serviceType": "NodePort"}),
        "spec.listener.nodePort",
        "30000",
    ),
    "shared with port": (
        ae(listener={"mode": "Shared", "port": 11115}),
        "spec.listener.mode",
        "mode Dedicated",
    ),
    "none with replicas": (
        ae(listener={"mode": "None", "replicas": 2}),
        "spec.listener.mode",
        "mode Dedicated",
    ),
    "pool without shared": (ae(listener={"pool": "main"}), "spec.listener.pool", "mode Shared"),
    "EmptyDir spooled": (
        ae(listener={"spool": {"type": "EmptyDir"}}),
        "spec.listener.acknowledge",
        "Indexed",
    ),
    "EmptyDir with class": (
        ae(listener={"spool": {"type": "EmptyDir", "storageClassName": "x"}, "acknowledge": "Indexed"}),
        "spec.listener.spool.type",
        "PersistentVolumeClaim",
    ),
    "ReadWriteOnce with two replicas": (
        ae(
            listener={
                "spool": {"type": "PersistentVolumeClaim", "accessMode": "ReadWriteOnce"},
                "replicas": 2,
            }
        ),
        "spec.listener.replicas",
        "one replica",
    ),
    "spool of size 0": (
        ae(listener={"spool": {"type": "PersistentVolumeClaim", "size": "0"}}),
        "spec.listener.spool.size",
        "quantity",
    ),
    "spool of a size that is none": (
        ae(listener={"spool": {"type": "PersistentVolumeClaim", "size": "20GB"}}),
        "spec.listener.spool.size",
        "quantity",
    ),
    "pod passes nothing else": (
        ae(listener={"pod": {"hostNetwork": True}}),
        "spec.listener.pod.hostNetwork",
        "unknown field",
    ),
    "cpu that is no quantity": (
        ae(listener={"pod": {"resources": {"requests": {"cpu": "a lot"}}}}),
        "spec.listener.pod.resources.requests.cpu",
        "quantity",
    ),
    "SOP class that is no UID": (
        ae(listener={"extraSOPClasses": ["CT"]}),
        "spec.listener.extraSOPClasses[0]",
        "match",
    ),
    "tls without secret": (ae(listener={"tls": {}}), "spec.listener.tls.secretName", "required"),
    "list for an object": (ae(listener=[]), "spec.listener", "expected an object, got a list of 0"),
    "comment too long": (ae(comment="x" * 1025), "spec.comment", "at most 1024 characters, got 1025"),
    "route without to": (manifest("ImageRoute", "r", {}), "spec.to", "required"),
    "route to nothing": (route(to=[]), "spec.to", "at least 1 item"),
    "route to 17": (route(to=[f"a{n}" for n in range(17)]), "spec.to", "at most 16 items"),
    "route to one twice": (route(to=["a", "a"]), "spec.to[1]", "every item once"),
    "route to its source": (route(source={"aes": ["pacs"]}), "spec.to", "both source and destination"),
    "empty from": (route(source={}), "spec.from", "at least 1 member"),
    "empty selector": (route(source={"selector": {}}), "spec.from.selector.matchLabels", "required"),
    "modality in lower case": (route(source={"modalities": ["ct"]}), "spec.from.modalities[0]", "matches"),
    "Exists with values": (
        route(source={"elements": [{"keyword": "StudyID", "op": "Exists", "values": ["1"]}]}),
        "spec.from.elements[0].values",
        "Exists",
    ),
    "In without values": (
        route(source={"elements": [{"keyword": "StudyID", "op": "In"}]}),
        "spec.from.elements[0].values",
        "every op but",
    ),
    "unknown op": (
        route(source={"elements": [{"keyword": "StudyID", "op": "Equals", "values": ["1"]}]}),
        "spec.from.elements[0].op",
        "one of In",
    ),
    "keyword as tag": (
        route(source={"elements": [{"keyword": "(0020,0010)", "op": "Exists"}]}),
        "spec.from.elements[0].keyword",
        "matches",
    ),
    "route level None": (route(level="None"), "spec.level", "one of Study, Series, Image"),
    "route priority -1": (route(priority=-1), "spec.priority", "at least 0"),
    "issuer with backslash": (partition(issuerOfPatientID="a\\b"), "spec.issuerOfPatientID", "backslash"),
    "issuer with a space behind": (partition(issuerOfPatientID="a "), "spec.issuerOfPatientID", "space"),
    "retention of 0 days": (
        partition(retention={"images": {"days": 0}}),
        "spec.retention.images.days",
        "at least 1",
    ),
    "partition with a name of 64": (partition("p" * 64), "", "at most 63 characters"),
}

UPDATES: dict[str, tuple[Manifest, Manifest, str]] = {
    "title": (ae("ct-1", title="CT_1"), ae("ct-1", title="CT 1"), "title is immutable"),
    "partition": (ae(patientPartition="a"), ae(patientPartition="b"), "patientPartition is immutable"),
    "partition left out": (ae(patientPartition="a"), ae(), "patientPartition is immutable"),
}

ALLOWED_UPDATES: dict[str, tuple[Manifest, Manifest]] = {
    "nothing": (ae(), ae()),
    "node and port": (ae(), ae(node="10.1.2.4", port=11112)),
    "default written out": (ae(), ae(patientPartition="default")),
    "push to print": (ae(push={}), ae(ability="Print")),
    "route": (route(), route(to=["other"])),
}


def test_there_are_enough_cases() -> None:
    assert len(ACCEPTED) + len(REFUSED) + len(UPDATES) + len(ALLOWED_UPDATES) >= 120


@pytest.mark.parametrize("value", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(value: Manifest) -> None:
    result = validate(value)
    assert [str(problem) for problem in result.problems] == []
    assert len(result.resources) == 1


@pytest.mark.parametrize(("value", "field", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(value: Manifest, field: str, words: str) -> None:
    result = validate(value)
    assert [problem.field for problem in result.problems] == [field], [str(p) for p in result.problems]
    assert words in result.problems[0].message
    assert result.resources == ()


@pytest.mark.parametrize(("old", "new", "words"), UPDATES.values(), ids=UPDATES.keys())
def test_update_refused(old: Manifest, new: Manifest, words: str) -> None:
    assert validate(new).is_valid, "alone it is right"
    result = validate(new, old=[resource(old)])
    assert [words in problem.message for problem in result.problems] == [True], [
        str(p) for p in result.problems
    ]
    assert result.resources == ()


@pytest.mark.parametrize(("old", "new"), ALLOWED_UPDATES.values(), ids=ALLOWED_UPDATES.keys())
def test_update_allowed(old: Manifest, new: Manifest) -> None:
    assert validate(new, old=[resource(old)]).is_valid
