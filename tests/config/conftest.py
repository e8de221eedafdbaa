"""What these tests share."""

from tests.kit.no_state import no_state_of_ours as no_state_of_ours
