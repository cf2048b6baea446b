import httpx
import numpy as np
import pytest

from tests.service.api.conftest import Running
from tests.service.api.uploads import WEIGHTS, digits, npz, onnx_with_external_data, post_dataset, post_model


def test_a_model_is_answered_with_its_parts_and_prices(http: httpx.Client) -> None:
    model = post_model(http, mean="0.1").json()

    assert (model["input_shape"], model["classes"], model["format"]) == ([1, 8, 8], 10, "onnx")
    assert model["preprocessing"] == {"layout": "NHWC", "scale": 1 / 16, "mean": [0.1], "std": [0.5]}
    assert sum(layer["parameters"] for layer in model["layers"]) <= model["parameters"]
    assert sum(layer["macs"] for layer in model["layers"]) == model["macs"]
    assert any(block["residual"] for block in model["blocks"])
    assert model["groups"]
    assert model["baseline"]["raspberry-pi-4"]["latency_ms"] > 0
    assert http.get(f"/v1/models/{model['id']}").json() == model


def test_the_same_network_comes_from_weights_of_a_named_architecture(http: httpx.Client) -> None:
    by_name = post_model(http, WEIGHTS.read_bytes(), name="w.safetensors", architecture="digits_resnet").json()
    by_file = post_model(http).json()

    assert by_name["format"] == "digits_resnet"
    assert by_name["macs"] == by_file["macs"]
    assert len(by_name["layers"]) == len(by_file["layers"])


def test_a_network_may_keep_its_tensors_in_a_second_file(http: httpx.Client) -> None:
    weight = np.arange(640, dtype=np.float32)  # (10, 64), as the network says
    network = onnx_with_external_data("net.onnx.data")

    alone = post_model(http, network)
    together = post_model(http, network, beside=weight.tobytes())
    others = post_model(http, network, beside=(2 * weight).tobytes())
    short = post_model(http, network, beside=weight[1:].tobytes())

    assert (alone.status_code, alone.json()["code"]) == (422, "external_data")
    assert "'net.onnx.data': hand that file in too" in alone.json()["detail"]
    assert (together.status_code, together.json()["parameters"]) == (201, 640)
    assert others.json()["id"] != together.json()["id"]
    assert (short.status_code, short.json()["errors"][0]["field"]) == (422, "data")


def test_weights_of_an_architecture_have_no_second_file(http: httpx.Client) -> None:
    answer = post_model(http, WEIGHTS.read_bytes(), architecture="digits_resnet", beside=b"more")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "data")


def test_the_same_model_again_is_the_same_model(running: Running) -> None:
    first = post_model(running.http, std="0.25", name="first.onnx")
    before = running.state()
    again = post_model(running.http, std="0.25", name="second.onnx")
    other = post_model(running.http, std="0.26", name="second.onnx")

    assert first.status_code in (200, 201)
    assert (again.status_code, again.json()) == (200, first.json())
    assert other.json()["id"] != first.json()["id"]
    assert running.state()[1] == before[1]  # the files are the same


def test_a_data_set_is_answered_with_what_is_in_it(http: httpx.Client) -> None:
    answer = post_dataset(http, npz(**digits(120)), name="my digits.npz")

    dataset = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert (dataset["name"], dataset["images"], dataset["shape"]) == ("my digits", 120, [8, 8, 1])
    assert (dataset["dtype"], dataset["classes"]) == ("uint8", 10)
    assert post_dataset(http, npz(**digits(120))).status_code == 200
    assert http.get(f"/v1/datasets/{dataset['id']}").json() == dataset


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_lists_come_in_pages_that_miss_nothing(http: httpx.Client, kind: str) -> None:
    for number in range(3):
        if kind == "models":
            post_model(http, mean=f"0.3{number}")
        else:
            post_dataset(http, npz(**digits(130 + number)))

    whole = [row["id"] for row in http.get(f"/v1/{kind}?limit=200").json()["items"]]
    pages, cursor = [], None
    while True:
        page = http.get(f"/v1/{kind}", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        pages += [row["id"] for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert pages == whole
    assert len(whole) >= 3
    assert whole == sorted(whole, reverse=True)
