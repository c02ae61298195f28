"""Keys and secrets: where they are kept, and the sealing of access tokens under a master key."""

from engine.secrets.keeper import Keeper, kept
from engine.secrets.sealing import Sealed, Secrets

__all__ = ["Keeper", "Sealed", "Secrets", "kept"]
