"""What these tests share."""

from tests.kit.no_state import no_state_of_ours

__all__ = ["no_state_of_ours"]
