"""Print the package's bill of materials: CycloneDX 1.6, in JSON. The same tree, the same bytes.

usage: packaging/sbom.py SITE_PACKAGES SECONDS_SINCE_THE_EPOCH [PIP_REPORT …]
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from carried import AGENT, Carried, Part, carried
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def main() -> None:
    """The bill on standard output."""
    site = Path(sys.argv[1]).resolve()
    found = carried(site, [Path(name) for name in sys.argv[3:]])
    components = {each.name: _package(each, site) for each in found}
    agent = components[AGENT]
    bom = Bom(components=[one for name, one in components.items() if name != AGENT])
    bom.metadata.component = agent
    bom.metadata.timestamp = datetime.fromtimestamp(int(sys.argv[2]), UTC)
    for each in found:
        bom.register_dependency(components[each.name], [components[name] for name in each.requires])
    # The same contents, the same number; so its text is made twice.
    bom.serial_number = uuid5(NAMESPACE_URL, AGENT)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    bom.serial_number = uuid5(NAMESPACE_URL, sha256(text.encode()).hexdigest())
    print(JsonV1Dot6(bom).output_as_string(indent=1))


def _package(each: Carried, site: Path) -> Component:
    purl = PackageURL("pypi", name=each.name, version=each.version)
    ours = each.name == AGENT
    links = [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(each.homepage))]
    return Component(
        name=each.name,
        version=each.version,
        type=ComponentType.APPLICATION if ours else ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        description=each.summary or None,
        licenses=[LicenseExpression(each.licence)],
        copyright="\n".join(each.holders),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each.sha256)] if each.sha256 else [],
        external_references=links if each.homepage else [],
        components=[_part(part, each, site) for part in each.parts],
    )


def _part(part: Part, each: Carried, site: Path) -> Component:
    """What lies within it. A file that is all its own bears its hash."""
    file = site / part.path
    whole = part.path.endswith(f"/{part.name}")
    digest = sha256(file.read_bytes()).hexdigest() if whole else ""
    where = f"opt/device-agent/{file.relative_to(site.parents[2])}" if part.path else ""
    return Component(
        name=part.name,
        version=part.version or None,
        type=ComponentType.APPLICATION if whole else ComponentType.LIBRARY,
        bom_ref=BomRef(f"{each.name}/{part.purl or part.name}"),
        purl=PackageURL.from_string(part.purl) if part.purl else None,
        licenses=[LicenseExpression(part.licence)],
        copyright=part.holder or None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else [],
        properties=[Property(name="device-agent:file", value=where)] if where else [],
    )


if __name__ == "__main__":
    main()
