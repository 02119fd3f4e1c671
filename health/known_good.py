"""Remember over restarts what was good on a GPU in this boot: what is worse now is a fault."""

from collections.abc import Iterable

from msgspec.structs import replace

from health.label_facts import with_facts
from proto.messages import Gpu


def with_known_good(gpu: Gpu, known: Iterable[Gpu]) -> Gpu:
    """Return the enumerated *gpu* with what it had before, by the *known* GPUs of this boot.

    It had as many NVLinks as were ever counted, and it counted memory errors if it ever did, unless
    ECC mode was switched off since. Another slot or MIG mode has other links: nothing is known.
    What only labels tell stays as it was until the GPU answers, so that no label goes away.
    """
    place = (gpu.uuid, gpu.pci_bus_id, gpu.mig_enabled)
    same = [g for g in known if (g.uuid, g.pci_bus_id, g.mig_enabled) == place]
    nvlinks = max((gpu.nvlinks, *(g.nvlinks for g in same)))
    ecc = gpu.ecc if gpu.ecc is not None or not same else same[0].ecc
    facts = with_facts(same[0], gpu.facts).facts if same else gpu.facts
    return replace(gpu, nvlinks=nvlinks, ecc=ecc, facts=facts)
