"""Train a small convolutional network on handwritten digits: an ordinary PyTorch program.

    python examples/digits.py                       # train, save, predict in a new process, draw
    python examples/digits.py --predict CHECKPOINT  # predict with a saved network

The only line that differs from a program for PyTorch is the import of torsh below; with ``import torch`` in its place the
program runs just the same. Needs scikit-learn (the data), rich (the progress bar) and matplotlib (the picture).
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import torsh as torch

nn = torch.nn
F = torch.nn.functional


class Network(nn.Module):
    """Three convolutions, two of them followed by pooling, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 2 * 2, 10))

    def forward(self, x):
        return self.head(self.features(x))


def load_digits():
    """(training set, test set): 1437 and 360 images of 8 x 8 pixels, real handwriting; each digit equally often in both."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split
    images, labels = load(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    x, x_test, y, y_test = train_test_split(images, labels.astype(np.int64), test_size=0.2, random_state=0, stratify=labels)

    def dataset(a, b):
        return torch.utils.data.TensorDataset(torch.from_numpy(a), torch.from_numpy(b))
    return dataset(x, y), dataset(x_test, y_test)


def evaluate(model, dataset):
    """(mean loss, accuracy) on a data set."""
    model.eval()
    loss, right = 0.0, 0
    with torch.no_grad():
        for x, y in torch.utils.data.DataLoader(dataset, batch_size=256):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    model.train()
    return loss / len(dataset), right / len(dataset)


def train(model, dataset, test_set, epochs, batch_size=64):
    """Train; returns what was measured in each epoch."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, epochs=epochs, steps_per_epoch=len(loader))
    history = []
    columns = (TextColumn("epoch {task.fields[epoch]:2}/" + str(epochs)), BarColumn(), TextColumn("{task.percentage:3.0f} "
                                                                                                  "%"),
               TimeElapsedColumn(), TextColumn("loss {task.fields[loss]:.4f}  test accuracy {task.fields[accuracy]:.2%}"))
    with Progress(*columns) as progress:
        task = progress.add_task("train", total=epochs * len(loader), epoch=1, loss=float("nan"), accuracy=0.0)
        for epoch in range(1, epochs + 1):
            total = torch.zeros(())
            for x, y in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach()
                progress.update(task, advance=1)
            test_loss, accuracy = evaluate(model, test_set)
            history.append((total.item() / len(loader), test_loss, accuracy))
            progress.update(task, epoch=epoch, loss=history[-1][0], accuracy=accuracy)
    return history


def predict(checkpoint):
    """Load a network in this process and predict the test set; prints one digit for each image."""
    model = Network()
    model.load_state_dict(torch.load(checkpoint))
    model.eval()
    _, test_set = load_digits()
    with torch.no_grad():
        print("".join(map(str, model(test_set.tensors[0]).argmax(1).tolist())))


def draw(path, history, images, labels, predictions):
    """A picture: curves of loss and accuracy, and a grid of predictions (wrong ones in red)."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure = plt.figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2))
    loss_axes, accuracy_axes = left.subplots(2, 1, sharex=True)
    epochs = range(1, len(history) + 1)
    loss_axes.plot(epochs, [h[0] for h in history], label="training (smoothed labels)")
    loss_axes.plot(epochs, [h[1] for h in history], label="test")
    loss_axes.set(ylabel="loss", yscale="log")
    loss_axes.legend()
    accuracy_axes.plot(epochs, [100 * h[2] for h in history], color="tab:green")
    accuracy_axes.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(90, 100))
    # The wrong ones first, then others.
    order = np.argsort(predictions == labels, kind="stable")[:48]
    for axes, i in zip(right.subplots(6, 8).flat, order, strict=True):
        axes.imshow(images[i, 0], cmap="gray_r")
        axes.set_title(str(predictions[i]), color="black" if predictions[i] == labels[i] else "red", fontsize=10)
        axes.axis("off")
    figure.savefig(path, dpi=110)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="directory for checkpoint and picture")
    parser.add_argument("--predict", metavar="CHECKPOINT", help="only predict, with a saved network")
    args = parser.parse_args()
    if args.predict:
        return predict(args.predict)
    torch.manual_seed(args.seed)
    train_set, test_set = load_digits()
    model = Network()
    print(f"{torch.__name__} {torch.__version__}: {sum(p.numel() for p in model.parameters())} parameters, "
          f"{len(train_set)} training images, {len(test_set)} held out")
    start = time.perf_counter()
    history = train(model, train_set, test_set, args.epochs)
    seconds = time.perf_counter() - start
    print(f"trained in {seconds:.1f} s, test accuracy {history[-1][2]:.2%}")
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "digits.pt"
    torch.save(model.state_dict(), checkpoint)
    answer = subprocess.run([sys.executable, os.path.abspath(__file__), "--predict", str(checkpoint)], check=True,
                            capture_output=True, text=True).stdout.strip()
    predictions, labels = np.array(list(answer), dtype=int), test_set.tensors[1].numpy()
    accuracy = (predictions == labels).mean()
    print(f"a new process loaded {checkpoint} and predicts {accuracy:.2%} of the test images right")
    draw(args.out / "digits.png", history, test_set.tensors[0].numpy(), labels, predictions)
    print(f"picture: {args.out / 'digits.png'}")
    return 0 if accuracy >= 0.98 else f"test accuracy {accuracy:.2%} is below 98 %"


if __name__ == "__main__":
    sys.exit(main())
