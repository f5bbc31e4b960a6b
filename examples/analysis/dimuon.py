"""Dimuon mass spectrum: opposite charges in events with exactly two muons (ROOT's tutorial df102)."""

from __future__ import annotations

from boathouse.analysis import Axis, Events, FourMomenta, Histogram, Output

columns = ("nMuon", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge")

peaks = {
    0.548: r"$\eta$",
    0.779: r"$\rho,\,\omega$",
    1.019: r"$\phi$",
    3.097: r"$J/\psi$",
    3.686: r"$\psi'$",
    9.7: r"$\Upsilon(1,2,3S)$",
    91.19: r"$Z$",
}
histograms = {
    "dimuon_mass": Histogram(
        Axis(30_000, 0.25, 300.0, r"$m_{\mu\mu}$", "GeV"), title="Dimuon mass", logarithmic=True, marks=peaks
    )
}

cutflow = ("all events", "exactly two muons", "opposite charges")

ntuple = {"mass": "float32", "pt": "float32", "rapidity": "float32"}


def process(events: Events, out: Output) -> None:
    """Fill the mass of every pair, and keep its kinematics."""
    out.count("all events", events)
    two = events[events["nMuon"] == 2]
    out.count("exactly two muons", two)
    pairs = two[two.nth("Muon_charge", 0) != two.nth("Muon_charge", 1)]
    out.count("opposite charges", pairs)
    dimuon = muon(pairs, 0) + muon(pairs, 1)
    out.fill("dimuon_mass", dimuon.mass)
    out.keep(mass=dimuon.mass, pt=dimuon.pt, rapidity=dimuon.rapidity)


def muon(events: Events, n: int) -> FourMomenta:
    """The n-th muon of each event."""
    return FourMomenta.from_pt_eta_phi_mass(*(events.nth(f"Muon_{name}", n) for name in ("pt", "eta", "phi", "mass")))
