"""Where the NVLinks of a healthy card lead: to the NVSwitches of its baseboard, or to its peers."""

from collections.abc import Mapping, Sequence

from mockfail.cards import Card, Links
from mockfail.state import Value

_TO_GPU, _TO_SWITCH = 0, 2
_BOARD = 8  # GPUs that are linked with each other
_SWITCH_BUSES = (0x05, 0x06, 0x07, 0x08, 0x09, 0x0A)

# The eight V100 of an SXM2 board form a hybrid cube mesh: peer of each of a GPU's six links
# (source: NVIDIA DGX-1 with Tesla V100 system architecture white paper).
_CUBE_MESH = (
    (1, 2, 3, 3, 4, 4),
    (0, 2, 2, 3, 5, 5),
    (0, 1, 1, 3, 3, 6),
    (0, 0, 1, 2, 2, 7),
    (0, 0, 5, 6, 7, 7),
    (1, 1, 4, 6, 6, 7),
    (2, 4, 5, 5, 7, 7),
    (3, 4, 4, 5, 6, 6),
)


def links_of(card: Card, place: int, peers: Sequence[str]) -> tuple[Mapping[str, Value], ...]:
    """Return a value for each property of each link.

    Args:
        card: what it is; without NVLink there are no links.
        place: the card's place among the cards of its type.
        peers: PCI addresses of all of them.
    """
    if card.links is None:
        return ()
    if card.links.switches:
        return tuple(_link(card.links, _TO_SWITCH, end) for end in _switch_ends(card.links, place))
    board = place // _BOARD * _BOARD
    mates = peers[board : board + _BOARD]
    ends = _mesh_ends(card.links.count, place - board, len(mates))
    return tuple(_link(card.links, _TO_GPU, mates[end]) for end in ends)


def _switch_ends(links: Links, place: int) -> list[str]:
    domain = place // _BOARD
    switches = _SWITCH_BUSES[: links.switches]
    return [
        f"{domain:08X}:{switches[link * links.switches // links.count]:02X}:00.0"
        for link in range(links.count)
    ]


def _mesh_ends(count: int, place: int, cards: int) -> list[int]:
    """Return the peer of each link; smaller boards than eight share the links out evenly."""
    if cards == len(_CUBE_MESH):
        return list(_CUBE_MESH[place])
    others = [other for other in range(cards) if other != place]
    return [other for other in others for _ in range(count // len(others))]


def _link(links: Links, remote_type: int, remote: str) -> Mapping[str, Value]:
    return {
        "active": True,
        "remote_pci_bus_id": remote,
        "version": links.version,
        "remote_type": remote_type,
        "speed_mb_per_s": links.speed_mb_per_s,
        "crc_flit_errors": 0,
        "crc_data_errors": 0,
        "replay_errors": 0,
        "recovery_errors": 0,
    }
