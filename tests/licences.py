"""Name, version and licence of every installed distribution, for `make licences`."""

from importlib.metadata import distributions


def licence_of(metadata) -> str:
    """What a distribution says of its licence: an SPDX expression, else its classifiers, else the first words."""
    if metadata.get("License-Expression"):
        return metadata["License-Expression"]
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
    named = [c for c in classifiers if c != "OSI Approved"]
    words = (metadata.get("License") or "").strip().splitlines()
    return ", ".join(named) or (words[0][:60] if words else "not stated")


def rows() -> list[tuple[str, str, str]]:
    """One row per distribution, by name."""
    found = {
        d.metadata["Name"].lower(): (d.metadata["Name"], d.version, licence_of(d.metadata)) for d in distributions()
    }
    return [found[name] for name in sorted(found)]


if __name__ == "__main__":
    for row in rows():
        print("{:<32} {:<18} {}".format(*row))
