"""What an API server answers to one request: told without kubectl, so that nothing is checked on our side."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from ruamel.yaml import YAML

from tests.crd_cases.table import Manifest, reported_field

GROUP = "/apis/aegate.dev/v1alpha1"
PLURALS = {
    "ApplicationEntity": "applicationentities",
    "ImageRoute": "imageroutes",
    "PatientPartition": "patientpartitions",
    "AEPolicy": "aepolicies",
}
_STRICT = re.compile(r'unknown field "([^"]+)"')
_REST = "some validation rules were not checked"
"""A remark beside what is refused, and no refusal of its own."""
_UNDECODABLE = re.compile(r"cannot unmarshal \w+ into Go struct field ObjectMeta\.(\w+) of type \w+")
_FORMAT = re.compile(r"must be of type integer with format \w+ in (\S+)$")
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and the object of an answer."""

    status: int
    body: Manifest

    @property
    def is_accepted(self) -> bool:
        return self.status in (http.client.OK, http.client.CREATED)

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def refused(self) -> list[tuple[str, str]]:
        """The fields refused, with what is said of each; of a field that strict decoding does not know, too."""
        details = self.body.get("details") or {}
        assert isinstance(details, dict)
        causes = [(c.get("field", ""), c["message"]) for c in details.get("causes", [])]
        found = [(_place(place, said), said) for place, said in causes if _REST not in said]
        unknown = [(reported_field(m[1]), m[0]) for m in _STRICT.finditer(self.message)]
        undecodable = [(f"metadata.{m[1]}", m[0]) for m in _UNDECODABLE.finditer(self.message)]
        return unknown or undecodable or found


def _place(place: str, said: str) -> str:
    """Return the field: what an API server tells only in its message, and members of a map as we write them."""
    in_message = _FORMAT.search(said)
    place = in_message[1] if in_message else place.removeprefix("<nil>")
    return reported_field(re.sub(r"\[([A-Za-z]\w*)\]", r".\1", place))


class ApiServer:
    """One connection to an API server, as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = YAML(typ="safe", pure=True).load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
        if "client-certificate" in user:
            trust.load_cert_chain(user["client-certificate"], user["client-key"])
        self._token = user.get("token")
        self._connection = http.client.HTTPSConnection(
            urlsplit(cluster["server"]).netloc, context=trust, timeout=TIMEOUT_S
        )

    def close(self) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        content: str = "application/json",
        user: str = "",
        **query: str,
    ) -> Answer:
        """Send one request; ``user`` is whom to impersonate."""
        headers = {"Accept": "application/json", "Content-Type": content}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if user:
            headers["Impersonate-User"] = user
        address = f"{path}?{urlencode(query)}" if query else path
        try:
            self._connection.request(method, address, json.dumps(body) if body else None, headers)
            answer = self._connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()))
        except OSError:
            self._connection.close()  # the next request opens it anew
            raise

    def create(self, manifest: Manifest, *, user: str = "", **query: str) -> Answer:
        """Create an object, with strict decoding."""
        strict = {"fieldValidation": "Strict", **query}
        return self.request("POST", collection(manifest), manifest, user=user, **strict)

    def replace(self, manifest: Manifest, **query: str) -> Answer:
        """Replace the object of this name, with strict decoding."""
        return self.request("PUT", address(manifest), manifest, fieldValidation="Strict", **query)

    def get(self, manifest: Manifest) -> Answer:
        """Return the object of this name."""
        return self.request("GET", address(manifest))

    def delete(self, manifest: Manifest) -> None:
        """Delete the object of this name, where there is one, finalizers or not."""
        self.merge(manifest, {"metadata": {"finalizers": None}})
        assert self.request("DELETE", address(manifest)).status in (http.client.OK, http.client.NOT_FOUND)

    def merge(
        self, manifest: Manifest, patch: Mapping[str, object], part: str = "", *, user: str = "", **query: str
    ) -> Answer:
        """Merge ``patch`` into the object of this name, or into a ``part`` of it such as status."""
        place = address(manifest) + (f"/{part}" if part else "")
        content = "application/merge-patch+json"
        return self.request("PATCH", place, patch, content=content, user=user, **query)


def collection(manifest: Manifest) -> str:
    """Return the path of all objects of the manifest's kind in its namespace."""
    plural = PLURALS[str(manifest["kind"])]
    if plural == PLURALS["AEPolicy"]:
        return f"{GROUP}/{plural}"
    return f"{GROUP}/namespaces/{_metadata(manifest).get('namespace', 'default')}/{plural}"


def address(manifest: Manifest) -> str:
    """Return the path of the object."""
    return f"{collection(manifest)}/{_metadata(manifest)['name']}"


def _metadata(manifest: Manifest) -> Mapping[str, object]:
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping)
    return metadata
