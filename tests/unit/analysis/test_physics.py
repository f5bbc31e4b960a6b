from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from boathouse.analysis.physics import FourMomenta

momenta = st.tuples(st.floats(3, 200), st.floats(-2.4, 2.4), st.floats(-math.pi, math.pi))


def test_mass_of_two_back_to_back_muons() -> None:
    first = FourMomenta.from_pt_eta_phi_mass([45.0], [0.0], [0.0], [0.1056])
    second = FourMomenta.from_pt_eta_phi_mass([45.0], [0.0], [math.pi], [0.1056])
    pair = first + second
    assert np.allclose(pair.mass, 2 * math.hypot(45.0, 0.1056))
    assert np.allclose(pair.pt, 0.0, atol=1e-12)
    assert np.allclose(pair.rapidity, 0.0)


def test_everything_is_computed_in_float64() -> None:
    values = np.array([17.3], dtype=np.float32)
    momentum = FourMomenta.from_pt_eta_phi_mass(values, values / 10, values / 10, values / 200)
    assert momentum.mass.dtype == np.float64
    assert momentum.energy.dtype == np.float64


@given(momenta, momenta)
def test_mass_agrees_with_the_textbook_formula(a: tuple[float, float, float], b: tuple[float, float, float]) -> None:
    pair = FourMomenta.from_pt_eta_phi_mass(*([x] for x in a), [0.0]) + FourMomenta.from_pt_eta_phi_mass(
        *([x] for x in b), [0.0]
    )
    expected = math.sqrt(max(0.0, 2 * a[0] * b[0] * (math.cosh(a[1] - b[1]) - math.cos(a[2] - b[2]))))
    assert math.isclose(float(pair.mass[0]), expected, rel_tol=1e-6, abs_tol=1e-4)


def test_selection_keeps_order() -> None:
    many = FourMomenta.from_pt_eta_phi_mass([1.0, 2.0, 3.0], [0.0] * 3, [0.0] * 3, [0.1] * 3)
    assert many[np.array([True, False, True])].pt.tolist() == [1.0, 3.0]
    assert len(many) == 3
