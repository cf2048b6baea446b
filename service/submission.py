"""From a request for a job to a row in the queue: everything that can be known to be wrong is said now."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hwmodels.errors import InputError
from hwmodels.profile import Profile
from service.graphs import graph_on_disk
from service.quotas import check_jobs, check_storage
from service.services import Services
from service.store.identifiers import new_id
from service.store.jobs import Jobs
from service.store.records import DatasetRecord, JobRecord, ModelRecord
from service.store.rows import moment
from service.store.states import JobStatus
from service.uploads import find_dataset, find_model, no_dataset
from workers.spec import JobSpec, Preprocessing
from workers.split import LEAST_CALIBRATION, LEAST_SEARCH, LEAST_TEST


class ImpossibleLimitError(InputError):
    """A limit that nothing in the job's space can keep; says what can be reached."""

    code = "impossible_limit"


class ShapeMismatchError(InputError):
    """The images of a data set are not what the network takes."""

    code = "shape_mismatch"


class LabelOutOfRangeError(InputError):
    """The data set has labels for which the network has no output."""

    code = "label_out_of_range"


class TooFewImagesError(InputError):
    """The data set is too small to be split."""

    code = "too_few_images"


class ManyLimitsError(ImpossibleLimitError):
    """Several impossible limits, told together."""

    def __init__(self, errors: Sequence[ImpossibleLimitError]) -> None:
        super().__init__(errors[0].field, errors[0].rule, errors[0].value)
        self.errors = tuple(errors)


def submit(
    services: Services,
    spec: JobSpec,
    *,
    model_id: str,
    dataset_id: str | None,
    idempotency_key: str | None,
    request: Mapping[str, Any],
    may_wait: bool = True,
) -> tuple[JobRecord, bool]:
    """Check a job and queue it; say whether it is new.

    Args:
        services: What the service is made of.
        spec: The job.
        model_id: Its network.
        dataset_id: Its data; none if the job is data-free.
        idempotency_key: Two submissions with the same key are one job.
        request: The request as it came, to tell whether two are the same.
        may_wait: Whether to wait where it takes seconds to find out what the job can reach.

    Raises:
        FitUnknownError: It does, and the caller may not wait.
        NotFoundError: A model, data set or device is not known.
        InputError: Data and network do not fit, a name is not known, or a limit cannot be kept.
        ConflictError: The key was used for another request, or the owner's storage is full.
        TooManyError: The owner has as many jobs as anybody may have.
    """
    request_digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    if idempotency_key is not None:
        with services.database.read() as connection:
            earlier = Jobs(connection).by_key(idempotency_key)
        if earlier is not None and earlier.request_digest == request_digest:
            return earlier, False
    with services.database.read() as connection:
        check_jobs(connection, services.settings, services.owner)
        check_storage(connection, services.settings, services.owner)
    model = find_model(services, model_id, field="model_id")
    given = _data(services, spec, model, dataset_id)
    profiles = services.chosen_profiles({device.name: f"devices.{n}" for n, device in enumerate(spec.devices)})
    ranges = fit_check(services, spec, model, profiles, may_wait=may_wait)
    dataset = given or no_dataset(services)
    job = JobRecord(
        id=new_id(),
        owner=services.owner,
        name=spec.name,
        status=JobStatus.QUEUED,
        reason=None,
        request=None,
        model_id=model.id,
        dataset_id=dataset.id,
        spec=spec.to_json(),
        profiles={name: profile.to_json() for name, profile in profiles.items()},
        idempotency_key=idempotency_key,
        request_digest=request_digest,
        created_at=moment(),
        started_at=None,
        ended_at=None,
        progress=None,
        baseline=None,
        split=None,
        variables=None,
        ranges=ranges,
        resolvable_drop=None,
        spent_s=0.0,
        last_event=0,
        attempts=0,
        lease_owner=None,
        lease_until=None,
        epoch=0,
    )
    with services.database.write() as connection:
        Jobs(connection).lock_submissions()
        found, new = Jobs(connection).submit(job)
        if new:
            check_jobs(connection, services.settings, services.owner, besides=1)
        return found, new


def _data(services: Services, spec: JobSpec, model: ModelRecord, dataset_id: str | None) -> DatasetRecord | None:
    if spec.data_free:
        if dataset_id is not None:
            raise InputError("dataset_id", "must be left out of a job that is data_free", dataset_id)
        return None
    if dataset_id is None:
        rule = "is required: labelled data, without which there is no accuracy to search for; or ask for data_free"
        raise InputError("dataset_id", rule)
    dataset = find_dataset(services, dataset_id, field="dataset_id")
    check_data(model, dataset)
    return dataset


def check_data(model: ModelRecord, dataset: DatasetRecord) -> None:
    """Raise unless the images are what the network takes, every label has an output, and there are enough of them."""
    about = dataset.description
    wanted = list(model.description["input_shape"])
    found = _as_input(about["shape"], about["dtype"], Preprocessing.from_json(model.preprocessing))
    if found != wanted:
        rule = f"must have images that become the network's input {wanted}; these become {found}"
        raise ShapeMismatchError("dataset_id", rule, about["shape"])
    outputs = model.description["classes"]
    if about["classes"] > outputs:
        rule = f"must have labels in 0..{outputs - 1}, one per output of the network"
        raise LabelOutOfRangeError("dataset_id", rule, about["classes"] - 1)
    least = LEAST_CALIBRATION + LEAST_SEARCH + LEAST_TEST
    if about["images"] < least:
        rule = (
            f"must have at least {least} images: {LEAST_CALIBRATION} to calibrate, {LEAST_SEARCH} to search on and "
            f"{LEAST_TEST} to test"
        )
        raise TooFewImagesError("dataset_id", rule, about["images"])


def fit_check(
    services: Services,
    spec: JobSpec,
    model: ModelRecord,
    profiles: Mapping[str, Profile],
    *,
    refuse: bool = True,
    may_wait: bool = True,
) -> dict[str, Any]:
    """Return the reachable range of every cost on every device; raise if a limit lies below, unless told not to.

    Raises ``FitUnknownError`` where that takes seconds and the caller may not wait.
    """
    result = _fit(services, spec, model, profiles, may_wait)
    errors = [_impossible(row, spec) for row in result["impossible"]]
    if errors and refuse:
        raise ManyLimitsError(errors)
    return dict(result["ranges"])


def _fit(
    services: Services,
    spec: JobSpec,
    model: ModelRecord,
    profiles: Mapping[str, Profile],
    may_wait: bool,
) -> Mapping[str, Any]:
    plain = {name: profile.to_json() for name, profile in profiles.items()}

    def compute() -> Mapping[str, Any]:
        with graph_on_disk(services, model) as path:
            parameters = {
                "graph": str(path),
                "tensors": model.description["tensors"],
                "spec": spec.to_json(),
                "profiles": plain,
            }
            with services.ingest.run("fit", parameters) as reply:
                return reply.result

    return services.fits.get(
        graph=model.graph_artifact, spec=spec.to_json(), profiles=plain, compute=compute, may_wait=may_wait
    )


def _impossible(row: Mapping[str, Any], spec: JobSpec) -> ImpossibleLimitError:
    index = next(number for number, device in enumerate(spec.devices) if device.name == row["device"])
    if row["closest"] is not None:
        closest = ", ".join(f"{name} {value:.6g}" for name, value in row["closest"].items())
        rule = (
            f"can each be kept on {row['device']}, but nothing was found that keeps all of them; "
            f"the closest has {closest}: loosen one of these limits"
        )
        limits = {name: getattr(spec.devices[index].limits, name) for name in row["closest"]}
        return ImpossibleLimitError(f"devices.{index}.limits", rule, limits)
    if row["smallest"] is None:
        return ImpossibleLimitError(f"devices.{index}", f"nothing in the job's space can run on {row['device']}")
    field = f"devices.{index}.limits.{row['limit']}"
    reach = f"{row['smallest']:.6g} (middle {row['middle']:.6g}, largest {row['largest']:.6g})"
    rule = f"must be at least {reach}, the smallest that this network can reach on {row['device']}"
    return ImpossibleLimitError(field, rule, row["value"])


def _as_input(shape: Sequence[int], dtype: str, preprocessing: Preprocessing) -> list[int]:
    """Return the shape that one stored image has as an input; integer images are turned to channels first."""
    if dtype == "float32":
        return list(shape)
    if len(shape) == 2:
        return [1, *shape]
    if len(shape) == 3 and preprocessing.layout == "NHWC":
        return [shape[2], shape[0], shape[1]]
    return list(shape)
