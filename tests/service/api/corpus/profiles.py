"""Device profiles that must not be taken in, as they are sent."""

import json
from collections.abc import Callable
from typing import Any

from hwmodels.profile import builtin_profiles

JSON = "application/json"


def profile(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a good profile after one change."""
    data = json.loads(json.dumps(builtin_profiles()["raspberry-pi-4"].to_json()))
    data["name"] = "own-board"
    change(data)
    return json.dumps(data).encode()


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)

PROFILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "invalid_input"),
    "a list": (lambda: b"[]", "invalid_input"),
    "a number": (lambda: b"7", "invalid_input"),
    "an empty profile": (lambda: b"{}", "invalid_profile"),
    "YAML that doubles nine times": (LAUGHS.encode, "invalid_input"),
    "YAML that makes an object": (lambda: b"!!python/object/apply:os.system ['id']", "invalid_input"),
    "brackets without end": (lambda: b"[" * 50_000, "bad_request"),
    "objects without end": (lambda: b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "bad_request"),
    "a number that no float holds": (lambda: profile(lambda data: data.update(title=10**400)), "invalid_profile"),
    "a field of nobody": (lambda: profile(lambda data: data.update(colour="red")), "invalid_profile"),
    "a name that leads outside": (lambda: profile(lambda data: data.update(name="../../etc")), "invalid_profile"),
    "a name without end": (lambda: profile(lambda data: data.update(name="a" * 10_000)), "invalid_profile"),
    "a name that is taken": (lambda: profile(lambda data: data.update(name="raspberry-pi-4")), "device_exists"),
    "the name of the schema": (lambda: profile(lambda data: data.update(name="schema")), "invalid_input"),
    "a name that is no text": (lambda: profile(lambda data: data.update(name={"a": 1})), "invalid_profile"),
    "no widths": (lambda: profile(lambda data: data["formats"].update(weight_bits=[])), "invalid_profile"),
    "a width of a thousand": (
        lambda: profile(lambda data: data["formats"].update(weight_bits=[1000])),
        "invalid_profile",
    ),
    "not a number": (lambda: b'{"name": NaN}', "invalid_profile"),
}
