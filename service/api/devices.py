"""``/v1/devices``."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from hwmodels.device_view import device_view
from hwmodels.errors import InputError
from hwmodels.profile import Profile, builtin_profiles, json_schema, load_profile
from service.api.dependencies import ServicesOf
from service.api.schemas import DeviceRead, DeviceSummary, Page
from service.errors import ConflictError, NotFoundError
from service.quotas import check_devices
from service.store.identifiers import new_id
from service.store.records import DeviceRecord
from service.store.rows import moment
from service.store.uploads import Devices

router = APIRouter(prefix="/v1/devices", tags=["devices"])

SCHEMA = "schema"


@router.get("")
def list_devices(services: ServicesOf) -> Page[DeviceSummary]:
    """List every device profile, those that ship with the product first."""
    return Page(items=[_summary(profile) for profile in services.profiles().values()])


@router.get(f"/{SCHEMA}")
def device_schema() -> dict[str, Any]:
    """Return the JSON schema of a device profile."""
    return json_schema()


@router.get("/{name}")
def read_device(services: ServicesOf, name: str) -> DeviceRead:
    """Return a device profile: every number with its unit, source and confidence."""
    profiles = services.profiles()
    if name not in profiles:
        raise NotFoundError("device", name, known=tuple(profiles))
    return _read(profiles[name])


@router.post("", status_code=201)
def add_device(
    services: ServicesOf, response: Response, profile: Annotated[dict[str, Any], Body(description="A device profile")]
) -> DeviceRead:
    """Add a profile of your own. Profiles never change; the same one again is answered with 200."""
    checked = load_profile(profile)
    if checked.name == SCHEMA:
        raise InputError("name", "must be another one: the JSON schema of profiles is at this address", SCHEMA)
    if checked.name in builtin_profiles():
        raise ConflictError(f"{checked.name!r} ships with tightfit; choose another name", code="device_exists")
    row = DeviceRecord(
        id=new_id(), owner=services.owner, name=checked.name, profile=checked.to_json(), created_at=moment()
    )
    with services.database.write() as connection:
        _, new = Devices(connection).add(row)
        if new:
            check_devices(connection, services.settings, services.owner)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/devices/{checked.name}"
    return _read(checked)


def _summary(profile: Profile) -> DeviceSummary:
    return DeviceSummary(name=profile.name, title=profile.title, custom=profile.name not in builtin_profiles())


def _read(profile: Profile) -> DeviceRead:
    return DeviceRead(**_summary(profile).model_dump(), profile=profile.to_json(), **device_view(profile).to_json())
