"""valueSI and unitSI, which the server adds to every quantity whose unit it knows."""

from __future__ import annotations

from orchestration.ledger.service import Document, Json

_FACTORS: dict[str, tuple[float, str]] = {
    "eV": (1.602176634e-19, "J"),
    "keV": (1.602176634e-16, "J"),
    "MeV": (1.602176634e-13, "J"),
    "J": (1.0, "J"),
    "m": (1.0, "m"),
    "cm": (1e-2, "m"),
    "mm": (1e-3, "m"),
    "um": (1e-6, "m"),
    "nm": (1e-9, "m"),
    "angstrom": (1e-10, "m"),
    "Å": (1e-10, "m"),
    "s": (1.0, "s"),
    "ms": (1e-3, "s"),
    "us": (1e-6, "s"),
    "min": (60.0, "s"),
    "h": (3600.0, "s"),
    "deg": (0.017453292519943295, "rad"),
    "rad": (1.0, "rad"),
    "A": (1.0, "A"),
    "mA": (1e-3, "A"),
    "K": (1.0, "K"),
    "Pa": (1.0, "Pa"),
    "kPa": (1e3, "Pa"),
    "bar": (1e5, "Pa"),
    "Hz": (1.0, "Hz"),
    "kHz": (1e3, "Hz"),
    "g": (1e-3, "kg"),
    "kg": (1.0, "kg"),
}


def in_si(value: float, unit: str) -> tuple[float, str] | None:
    """The value in SI units; None where the unit is not known."""
    if unit == "degC":
        return value + 273.15, "K"
    known = _FACTORS.get(unit)
    return None if known is None else (value * known[0], known[1])


def with_si(value: Json) -> Json:
    """The same metadata with valueSI and unitSI added at every depth."""
    if isinstance(value, list):
        return [with_si(item) for item in value]
    if isinstance(value, dict):
        return {key: with_si(item) for key, item in value.items()} | _si_fields(value)
    return value


def _si_fields(quantity: Document) -> Document:
    number, unit = quantity.get("value"), quantity.get("unit")
    if isinstance(number, bool) or not isinstance(number, int | float) or not isinstance(unit, str):
        return {}
    converted = in_si(number, unit)
    return {} if converted is None else {"valueSI": converted[0], "unitSI": converted[1]}
