"""ResNet-20 on CIFAR-10 with fewer channels: criterion × repair, beside torch-pruning counted by the same rule.

Multiply-accumulates are those of convolutions and the linear layer; element-wise work has none. Every row keeps at most
the stated share of them. Keep-ratios are the same for all criteria: those that the product's integer programme finds
with losses measured per group (NISP, least squares, no labels), and the largest uniform ratio beside them. Repair uses
training images without their labels; torch-pruning's networks are measured as pruned and after their batch-norm
statistics were estimated anew on 2,000 images. Of its criteria, the one that is best on the first test images is
shown. Fine-tuning learns from the float network's outputs on training images, shifted and mirrored; no label is read.

    python -m benchmarks.pruning --data DATA [--images 9979] [--cuts 27 50] [--fine-tune]
        [--only-fine-tune] [--json FILE]
"""

import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import cifar, common
from benchmarks.pruning_allocation import Allocator, macs
from benchmarks.pruning_peers import Peer, peers, re_estimated
from compress.apply import apply, prepare
from compress.evaluate import accuracy
from compress.finetune import FineTuning, finetune
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.zoo import from_architecture
from compress.plan import Plan
from compress.pruners import PRUNERS
from compress.structure import analyse

REPAIRS = ("none", "channel_statistics", "least_squares")
BEST = Plan(pruner="nisp", repair="least_squares")
EPOCHS = {27: (2, 49918), 50: (1, 20000)}  # passes, and training images in each
RE_ESTIMATION = 2000  # training images that torch-pruning's networks get new batch-norm statistics from
SIFT = 2000  # test images on which torch-pruning's best criterion is chosen


def main() -> int:
    """Measure and print the tables."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--images", type=int, default=9979, help="test images (all)")
    arguments.add_argument("--table-images", type=int, default=9979, help="of these, those of the table (all)")
    arguments.add_argument("--calibration", type=int, default=512, help="training images for repair (512)")
    arguments.add_argument("--losses", type=int, default=192, help="of these, images that losses are measured on (192)")
    arguments.add_argument("--cuts", type=int, nargs="+", choices=(27, 50), default=(27, 50), help="percent to remove")
    arguments.add_argument("--fine-tune", action="store_true", help="train, too: half an hour on one idle core")
    arguments.add_argument("--learning-rate", type=float, default=FineTuning().learning_rate, help="Adam's")
    arguments.add_argument("--blend", type=float, default=FineTuning().blend, help="largest share of another image")
    arguments.add_argument("--only-fine-tune", action="store_true", help="train, and leave the table of criteria out")
    options = arguments.parse_args()
    training = options.fine_tune or options.only_fine_tune
    train_files = cifar.TRAIN_FILES if training else cifar.TRAIN_FILES[:1]
    files = common.require_files(options.data, (cifar.TEST_FILE, cifar.RESNET20_FILE, *train_files))
    network = from_architecture("cifar_resnet20", files[cifar.RESNET20_FILE])
    train = [files[name] for name in train_files]
    test = cifar.images(files[cifar.TEST_FILE], options.images)
    bench = Bench(network, cifar.images(train[0], RE_ESTIMATION), test, options)
    figures: dict[str, Any] = {"images": len(test[0]), "float": bench.measure(network), "macs": bench.allocator.macs}
    print(f"float: {100 * figures['float']:.2f} % of {len(test[0])} images, {bench.allocator.macs:,} MACs", flush=True)
    for cut in options.cuts:
        figures[f"-{cut} %"] = bench.at(cut, train if training else [], table=not options.only_fine_tune)
    common.report("pruning", figures, path=options.json)
    return 0


class Bench:
    """The network, its images, and what is measured of them at one number of multiply-accumulates after the other."""

    def __init__(
        self, network: Network, training: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], options: Namespace
    ) -> None:
        self.network, self.training, self.test = network, training, test
        self.shown, self.options = options.table_images, options
        structure = analyse(network)
        self.prepared = prepare(network, training[0][: options.calibration], structure=structure)
        few = training[0][: options.losses]
        start = time.process_time()
        self.allocator = Allocator(prepare(network, few, structure=structure), BEST, few)
        print(f"losses of keep-ratios measured in {time.process_time() - start:.0f} s", flush=True)

    def measure(self, network: Network, count: int | None = None) -> float:
        """Return the accuracy on the first ``count`` test images, or on all."""
        return accuracy(build_module(network), *(part[:count] for part in self.test))

    def at(self, cut: int, train: list[Path], *, table: bool) -> dict[str, Any]:
        """Return and print the figures with ``cut`` percent of the multiply-accumulates removed."""
        share = 1 - cut / 100
        ratios = {"programme": self.allocator.ratios(share), "uniform": self.allocator.uniform(share)}
        print(f"-{cut} %: {ratios['programme']}", flush=True)
        peer = self._best_peer(share)
        figures: dict[str, Any] = {"ratios": ratios}
        if table:
            figures["rows"] = self._table(cut, ratios, peer)
        best = Plan(keep_ratios=ratios["programme"], pruner=BEST.pruner, repair=BEST.repair)
        whole = self.measure(apply(self.prepared, best).network)
        print(f"-{cut} %: {BEST.pruner}, {BEST.repair}: {100 * whole:.2f} % of {len(self.test[0])} images", flush=True)
        figures["accuracy"] = whole
        if train:
            figures["fine-tuned"] = self._fine_tuned(cut, ratios["programme"], peer, train)
        return figures

    def _table(self, cut: int, ratios: Mapping[str, Mapping[str, float]], peer: Peer) -> list[dict[str, object]]:
        rows = [self._criterion("nisp", ratios["uniform"], "uniform")]
        rows += [self._criterion(name, ratios["programme"], "programme") for name in PRUNERS.names()]
        rows += self._peer_rows(peer)
        columns = ("criterion", "keep-ratios", "MACs %", *REPAIRS)
        title = f"ResNet-20, -{cut} % MACs: top-1 % by repair, our rows on {min(self.shown, len(self.test[0]))} images"
        common.print_table(title, columns, rows)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _criterion(self, pruner: str, ratios: Mapping[str, float], allocation: str) -> tuple[object, ...]:
        plans = [Plan(keep_ratios=ratios, pruner=pruner, repair=repair) for repair in REPAIRS]
        found = [100 * self.measure(apply(self.prepared, plan).network, self.shown) for plan in plans]
        print(pruner, allocation, [f"{value:.2f}" for value in found], flush=True)
        return (pruner, allocation, self._percent(macs(self.prepared, plans[0])), *found)

    def _best_peer(self, share: float) -> Peer:
        images, labels = self.training
        inner = {name for name in self._layers() if name.endswith("conv1") and name != "conv1"}
        found = peers(self.network, images[:512], labels[:512], inner=inner, budget=int(share * self.allocator.macs))
        sift = tuple(part[:SIFT] for part in self.test)

        def re_estimated_accuracy(peer: Peer) -> float:
            result = accuracy(build_module(re_estimated(peer.network, images)), *sift)
            print(f"torch-pruning {peer.criterion} {peer.scope}: {100 * result:.2f} %", flush=True)
            return result

        return max(found, key=re_estimated_accuracy)

    def _peer_rows(self, peer: Peer) -> list[tuple[object, ...]]:
        name, size = f"torch-pruning: {peer.criterion}", self._percent(peer.macs)
        after = re_estimated(peer.network, self.training[0])
        return [
            (name, peer.scope, size, 100 * self.measure(peer.network), "", ""),
            (f"{name}, batch norm re-estimated", peer.scope, size, 100 * self.measure(after), "", ""),
        ]

    def _fine_tuned(self, cut: int, ratios: Mapping[str, float], peer: Peer, train: list[Path]) -> dict[str, Any]:
        epochs, count = EPOCHS[cut]
        images, _ = cifar.training_images(train, count)
        rate, share = self.options.learning_rate, self.options.blend
        settings = FineTuning(epochs=epochs, learning_rate=rate, blend=share, augment=True)
        plan = Plan(keep_ratios=ratios, pruner=BEST.pruner, repair=BEST.repair)
        starts = {"ours": apply(self.prepared, plan).network}
        if cut == 50:
            starts["torch-pruning"] = re_estimated(peer.network, self.training[0])
        found: dict[str, Any] = {"epochs": epochs, "images": len(images)}
        for name, network in starts.items():
            start = time.process_time()
            tuned = finetune(network, self.network, images, settings=settings)
            seconds = time.process_time() - start
            found[name] = {"accuracy": self.measure(tuned.network), "cpu_s": seconds}
            top1 = f"{100 * found[name]['accuracy']:.2f} %"
            print(
                f"-{cut} %, {name}, {epochs} epochs of {len(images)} images: {top1} in {seconds:.0f} CPU s", flush=True
            )
        return found

    def _layers(self) -> set[str]:
        return {layer for group in self.prepared.structure.groups.groups for layer in group.layers}

    def _percent(self, count: int) -> float:
        return 100 * (count / self.allocator.macs - 1)


if __name__ == "__main__":
    sys.exit(main())
