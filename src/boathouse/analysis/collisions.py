"""Simulated proton collisions with muons: peaks from the eta to the Z, a continuum, single and extra muons.

A simulation of the *look* of CMS data of 2012, not of its physics: right masses, widths and resolutions, plausible
momenta. The numbers are the same on every machine: random numbers are taken from PCG64 only as uniform doubles (its
stream is fixed), all other shapes are made from those here, and what is written keeps few bits, so that processors
whose ``sin`` differs in the last bit of a double still give the same file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boathouse.analysis.physics import Float64s, FourMomenta

MUON_MASS_GEV = 0.1056583745
"""Particle Data Group, 2024."""

_MIN_PT_GEV = 3.0
_MAX_ETA = 2.4
_EFFICIENCY = 0.96


@dataclass(frozen=True)
class _Source:
    """A kind of event: where the mass of its muon pair comes from, and how often it occurs."""

    share: float
    mass_gev: float = 0.0
    width_gev: float = 0.0


# Masses and widths: Particle Data Group, 2024. Shares: chosen so that two million events show every peak.
_RESONANCES = {
    "eta": _Source(0.008, 0.547862, 1.31e-6),
    "rho": _Source(0.018, 0.77526, 0.1474),
    "omega": _Source(0.012, 0.78266, 0.00868),
    "phi": _Source(0.013, 1.019461, 0.004249),
    "J/psi": _Source(0.088, 3.0969, 9.26e-5),
    "psi(2S)": _Source(0.007, 3.6861, 2.94e-4),
    "Y(1S)": _Source(0.024, 9.4604, 5.4e-5),
    "Y(2S)": _Source(0.008, 10.0234, 3.2e-5),
    "Y(3S)": _Source(0.005, 10.3551, 2.0e-5),
    "Z": _Source(0.165, 91.1880, 2.4955),
}
_LOW_CONTINUUM, _HIGH_CONTINUUM = 0.24, 0.26
"""Pairs with a mass spread widely in its logarithm, and pairs around 30 GeV as the trigger's thresholds shape them."""
_SINGLE = 0.12
"""Events with one muon; the rest have none but pile-up's."""
_SAME_SIGN = 0.42
"""Of continuum pairs, the part with equal charges."""


class Uniforms:
    """Random numbers of one block of events; every shape is made from uniform doubles by its inverse."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Float64s:
        """Evenly spread in [low, high)."""
        return low + (high - low) * self._generator.random(count)

    def exponential(self, count: int, mean: float) -> Float64s:
        """Exponential with the given mean."""
        return -mean * np.log1p(-self._generator.random(count))

    def normal(self, count: int) -> Float64s:
        """Standard normal, by Box and Muller."""
        radius = np.sqrt(-2.0 * np.log1p(-self._generator.random(count)))
        return radius * np.cos(2.0 * np.pi * self._generator.random(count))

    def choose(self, count: int, shares: list[float]) -> NDArray[np.int64]:
        """Indices 0..len(shares) with these probabilities; the last index takes what is left of 1."""
        return np.searchsorted(np.cumsum(shares), self._generator.random(count), side="right")


@dataclass(frozen=True)
class Muons:
    """Muons of a block of events, ordered by event and falling transverse momentum."""

    counts: NDArray[np.int64]
    """Muons in each event."""
    pt: Float64s
    eta: Float64s
    phi: Float64s
    charge: NDArray[np.int32]


def muons(random: Uniforms, events: int) -> Muons:
    """Muons that a detector would see in so many collisions."""
    every = np.arange(events)
    source = random.choose(events, [*(r.share for r in _RESONANCES.values()), _LOW_CONTINUUM, _HIGH_CONTINUUM, _SINGLE])
    first_continuum = len(_RESONANCES)
    single = first_continuum + 2
    mass = _pair_masses(random, source)
    light = mass < 20.0
    pt = np.where(light, 9.0 + random.exponential(events, 9.0), random.exponential(events, 16.0))
    parent = _momentum(pt, 1.2 * random.normal(events), random.uniform(events, -np.pi, np.pi), mass)
    plus, minus = _decay(random, parent, mass)
    pair, has_one = source < single, source <= single
    same_sign = pair & (source >= first_continuum) & (random.uniform(events) < _SAME_SIGN)
    extra = np.repeat(every, _few(random, events))
    soft = _momentum(
        _MIN_PT_GEV + random.exponential(len(extra), 3.5),
        random.uniform(len(extra), -_MAX_ETA, _MAX_ETA),
        random.uniform(len(extra), -np.pi, np.pi),
        np.full(len(extra), MUON_MASS_GEV),
    )
    sign = np.where(random.uniform(events) < 0.5, 1, -1)
    soft_sign = np.where(random.uniform(len(extra)) < 0.5, 1, -1)
    event = np.concatenate([every[has_one], every[pair], extra])
    charge = np.concatenate([sign[has_one], np.where(same_sign, sign, -sign)[pair], soft_sign])
    return _detect(random, events, event, charge, (plus[has_one], minus[pair], soft))


def shorten(values: Float64s, bits: int) -> NDArray[np.float32]:
    """Round doubles to floats with a mantissa of so many bits: smaller files, and equal ones on every processor."""
    drop = 52 - bits
    pattern = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    kept = (pattern + np.uint64(1 << (drop - 1))) >> np.uint64(drop) << np.uint64(drop)
    return kept.view(np.float64).astype(np.float32)


def _pair_masses(random: Uniforms, source: NDArray[np.int64]) -> Float64s:
    """True mass of each event's pair in GeV: Breit-Wigner for resonances, the two continua otherwise."""
    events = len(source)
    low_continuum = len(_RESONANCES)
    unit = random.uniform(events)
    # Evenly in the logarithm, but for a parabola that ends at 300 GeV.
    mass = 0.23 * (300.0 / 0.23) ** (1.0 - np.cbrt(1.0 - unit))
    mass = np.where(source > low_continuum, np.clip(30.0 * np.exp(0.42 * random.normal(events)), 5.0, 400.0), mass)
    for index, resonance in enumerate(_RESONANCES.values()):
        chosen = source == index
        reach = 100.0 * resonance.width_gev
        low = np.arctan2(
            max(2.05 * MUON_MASS_GEV, resonance.mass_gev - reach) - resonance.mass_gev, resonance.width_gev / 2
        )
        high = np.arctan2(reach, resonance.width_gev / 2)
        mass[chosen] = resonance.mass_gev + resonance.width_gev / 2 * np.tan(low + (high - low) * unit[chosen])
    return mass


def _momentum(pt: Float64s, rapidity: Float64s, phi: Float64s, mass: Float64s) -> FourMomenta:
    transverse = np.sqrt(mass * mass + pt * pt)
    return FourMomenta(
        pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity), transverse * np.cosh(rapidity)
    )


def _decay(random: Uniforms, parent: FourMomenta, mass: Float64s) -> tuple[FourMomenta, FourMomenta]:
    """Two muons, isotropic in the rest frame of a parent of this mass, boosted with it."""
    events = len(mass)
    momentum = np.sqrt(np.maximum(mass * mass / 4 - MUON_MASS_GEV**2, 0.0))
    cosine, angle = random.uniform(events, -1, 1), random.uniform(events, -np.pi, np.pi)
    sine = np.sqrt(1 - cosine * cosine)
    qx, qy, qz = momentum * sine * np.cos(angle), momentum * sine * np.sin(angle), momentum * cosine
    gamma = parent.energy / mass
    bx, by, bz = parent.px / parent.energy, parent.py / parent.energy, parent.pz / parent.energy
    along = bx * qx + by * qy + bz * qz

    def boosted(sign: float) -> FourMomenta:
        shift = sign * gamma * gamma / (gamma + 1) * along + gamma * mass / 2
        return FourMomenta(
            sign * qx + shift * bx, sign * qy + shift * by, sign * qz + shift * bz, gamma * (mass / 2 + sign * along)
        )

    return boosted(1.0), boosted(-1.0)


def _few(random: Uniforms, events: int) -> NDArray[np.int64]:
    """Number of extra soft muons an event: a Poisson distribution of mean 0.42, cut at 6."""
    shares = [0.657047, 0.275960, 0.057952, 0.008113, 0.000852, 0.000072]
    return random.choose(events, shares)


def _detect(
    random: Uniforms,
    events: int,
    event: NDArray[np.int64],
    charge: NDArray[np.int64],
    groups: tuple[FourMomenta, ...],
) -> Muons:
    """Smear, lose what lies outside the acceptance, and order as NanoAOD does."""
    px, py, pz = (np.concatenate([getattr(group, name) for group in groups]) for name in ("px", "py", "pz"))
    true_pt = np.sqrt(px * px + py * py)
    eta, phi = np.arcsinh(pz / np.maximum(true_pt, 1e-9)), np.arctan2(py, px)
    resolution = np.where(np.abs(eta) < 1.2, 0.009, 0.016) * (1 + true_pt / 1500)
    pt = true_pt * (1 + resolution * random.normal(len(event)))
    seen = (pt > _MIN_PT_GEV) & (np.abs(eta) < _MAX_ETA) & (random.uniform(len(event)) < _EFFICIENCY)
    event, charge, pt, eta, phi = event[seen], charge[seen], pt[seen], eta[seen], phi[seen]
    order = np.lexsort((-pt, event))
    return Muons(
        counts=np.bincount(event, minlength=events),
        pt=pt[order],
        eta=eta[order],
        phi=phi[order],
        charge=charge[order].astype(np.int32),
    )
