"""CEL with Kubernetes' functions: the results that k8s.io/apiserver's library documents."""

from __future__ import annotations

import pytest

from aegate_core.errors import InvalidResource
from aegate_core.resources.cel import Expression, RuleFailed, escape_member, matches, to_cel


@pytest.mark.parametrize(
    ("expression", "value", "result"),
    [
        ("isIP(self)", "10.1.2.3", True),
        ("isIP(self)", "::ffff:10.1.2.3", False),
        ("isIP(self)", "fe80::1%eth0", False),
        ("isIP(self)", "10.01.2.3", False),
        ("isIP(self)", "ct1", False),
        ("ip.isCanonical(self)", "2001:db8::1", True),
        ("ip.isCanonical(self)", "2001:DB8::1", False),
        ("ip.isCanonical(self)", "2001:db8:0:0:0:0:0:1", False),
        ("ip(self).family()", "::1", 6),
        ("ip(self).isUnspecified()", "0.0.0.0", True),
        ("ip(self).isLoopback()", "127.0.0.1", True),
        ("ip(self).isLinkLocalMulticast()", "ff02::1", True),
        ("ip(self).isLinkLocalMulticast()", "224.0.1.1", False),
        ("ip(self).isLinkLocalUnicast()", "169.254.1.1", True),
        ("ip(self).isGlobalUnicast()", "10.0.0.1", True),
        ("ip(self).isGlobalUnicast()", "255.255.255.255", False),
        ("ip(self) == ip('2001:db8::1')", "2001:db8:0::1", True),
        ("isCIDR(self)", "10.0.0.0/8", True),
        ("isCIDR(self)", "10.0.0.0/33", False),
        ("isCIDR(self)", "10.0.0.0/08", False),
        ("isCIDR(self)", "10.0.0.0", False),
        ("cidr(self) == cidr(self).masked()", "10.1.2.0/24", True),
        ("cidr(self) == cidr(self).masked()", "10.1.2.3/24", False),
        ("cidr(self).prefixLength()", "10.1.2.3/24", 24),
        ("cidr(self).ip() == ip('10.1.2.3')", "10.1.2.3/24", True),
        ("cidr(self).containsIP('10.1.2.200')", "10.1.2.0/24", True),
        ("cidr(self).containsIP(ip('10.1.3.1'))", "10.1.2.0/24", False),
        ("cidr(self).containsIP('::1')", "10.1.2.0/24", False),
        ("cidr(self).containsCIDR('10.1.2.128/25')", "10.1.2.0/24", True),
        ("cidr(self).containsCIDR(cidr('10.0.0.0/8'))", "10.1.2.0/24", False),
        ("isQuantity(self)", "250m", True),
        ("isQuantity(self)", "20GB", False),
        ("quantity(self).isGreaterThan(quantity('1k'))", "1Ki", True),
        ("quantity(self).isLessThan(quantity('1'))", "999m", True),
        ("quantity(self).compareTo(quantity('1e3'))", "1000", 0),
        ("quantity(self) == quantity('1k')", "1000", True),
        ("quantity(self).isInteger()", "1500m", False),
        ("quantity(self).asInteger()", "2Ki", 2048),
        ("quantity(self).sign()", "-1", -1),
        ("quantity(self).add(quantity('1')) == quantity('2')", "1", True),
        ("quantity(self).sub(quantity('1')).asApproximateFloat()", "1500m", 0.5),
        ("format.dns1123Subdomain().validate(self).hasValue()", "ct1.example.org", False),
        ("format.dns1123Subdomain().validate(self).hasValue()", "CT1", True),
        ("size(format.dns1123Label().validate(self).value())", "a.b", 1),
        ("format.dns1035Label().validate(self).hasValue()", "1a", True),
        ("format.labelValue().validate(self).hasValue()", "", False),
        ("format.qualifiedName().validate(self).hasValue()", "aegate.dev/x", False),
        ("format.uuid().validate(self).hasValue()", "x", True),
        ("self.trim() == self && self.lowerAscii().replace('_', '-') == 'ct-1'", "CT_1", True),
        ("cel.bind(n, size(self), n * n)", "abc", 9),
    ],
)
def test_functions(expression: str, value: str, result: object) -> None:
    assert Expression(expression).evaluate(value) == result


@pytest.mark.parametrize(
    "expression", ["ip(self).masked()", "cidr(self)", "quantity(self)", "self.nothing", "self + 1"]
)
def test_what_cannot_be_evaluated_fails(expression: str) -> None:
    with pytest.raises(RuleFailed):
        Expression(expression).evaluate("10.1.2.3" if expression.startswith("ip(") else "x y")


@pytest.mark.parametrize("expression", ["'x'.isLoopback()", "unknown(self)", "self ==", "format.unknown()"])
def test_what_does_not_compile_is_refused(expression: str) -> None:
    with pytest.raises(InvalidResource, match="CEL expression does not compile"):
        Expression(expression)


def test_only_a_rule_that_names_the_old_value_is_a_transition() -> None:
    assert Expression("self == oldSelf").is_transition
    assert not Expression("self == 'oldSelf'").is_transition


def test_patterns_are_re2() -> None:
    assert matches("^a$", "a")
    assert not matches("^a$", "a\n"), "Python's own $ would match here"


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("port", "port"),
        ("namespace", "__namespace__"),
        ("a-b", "a__dash__b"),
        ("a.b/c", "a__dot__b__slash__c"),
    ],
)
def test_members_are_escaped(name: str, escaped: str) -> None:
    schema = {"properties": {name: {"type": "string"}}}
    assert to_cel({name: "x"}, schema) == {escaped: "x"}
    assert escape_member(name) == escaped


def test_keys_of_open_objects_are_not_escaped() -> None:
    assert to_cel({"a-b": "x"}, {"additionalProperties": {"type": "string"}}) == {"a-b": "x"}
