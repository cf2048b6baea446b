import pytest

from hwmodels.alignment import channel_alignment, common_alignment
from hwmodels.profile import Profile, builtin_profiles, load_profile


@pytest.mark.parametrize(
    ("name", "multiple"),
    [
        ("raspberry-pi-4", 4),  # NEON: four float32
        ("x86-avx2", 8),
        ("x86-avx512-vnni", 16),
        ("stm32h743", 2),  # two output channels per pass
        ("nvidia-t4", 1),  # names no lanes
    ],
)
def test_channels_go_by_the_lanes_that_the_profile_names(name: str, multiple: int) -> None:
    assert channel_alignment(builtin_profiles()[name]) == multiple


def test_several_devices_share_the_least_common_multiple() -> None:
    profiles = builtin_profiles()

    assert common_alignment([profiles["stm32h743"], profiles["raspberry-pi-4"], profiles["nvidia-t4"]]) == 4
    assert common_alignment([_with_lanes(6), profiles["raspberry-pi-4"]]) == 12  # lcm(6, 4)
    assert common_alignment([]) == 1


def test_multiples_beyond_the_largest_are_left_to_the_smaller_ones() -> None:
    assert common_alignment([_with_lanes(12), _with_lanes(16)]) == 12  # lcm would be 48


def _with_lanes(lanes: int) -> Profile:
    def changed(part: object) -> object:
        if isinstance(part, dict):
            return {key: {**value, "value": lanes} if key == "lanes" else changed(value) for key, value in part.items()}
        return [changed(value) for value in part] if isinstance(part, list) else part

    data = changed(builtin_profiles()["raspberry-pi-4"].to_json())
    assert isinstance(data, dict)
    return load_profile(data)
