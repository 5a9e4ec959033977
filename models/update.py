"""The one update rule that is SGD, momentum, RMSprop, Adam, AdamW, NAdam, Adagrad or Lion, by each row's coefficients.

Dimensions: A rows, P parameters per row, S steps of an epoch. Coupled weight decay adds the gradient of
``wd/2 * |theta|^2``, the negative log of a Gaussian prior: the rows find MAP estimates.

    theta *= 1 - lr*wd_decoupled;  d = g + wd_coupled*theta
    m = b1*m + cg*d;  v = b2*v + (1-b2)*d*d
    theta -= lr*c1*u / (s*(sqrt(v*c2) + eps) + (1-s))      u = d + b1*m with nesterov, else m
    c1 = 1/(1-b1^t), c2 = 1/(1-b2^t) where corrected (adam, adamw), else 1

==========  ====  ======  =====  =
optimizer   b1    cg      b2     s
==========  ====  ======  =====  =
sgd         0     1       1      0
momentum    mu    1       1      0
rmsprop     0     1       0.99   1
adam(w)     b1    1-b1    b2     1
==========  ====  ======  =====  =

b2 = 1 keeps v at zero where it is not used. NAdam is Adam with c1 = 1 and u = a_t*d + b_t*m (``nadam_shares``).
Adagrad has b2 = 1 - 1/t, so that v is the mean of all squares, and c2 = t, which makes it their sum.
Lion steps by the sign of u: its m has decayed by beta2 already, so that b1 = beta2, cg = 1 - beta2 and
beta1*m_before + (1-beta1)*d = q*d + (1-q)*m with q = 1 - beta1/beta2, which is the column nesterov.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.models.averages import EARLY
from sweeper.models.config import OPTIMIZERS, SCHEDULES
from sweeper.models.dropout import threshold
from sweeper.models.rows import COLUMNS, Rows
from sweeper.models.schedules import factor


class Coefficients(NamedTuple):
    """The columns of A rows for S steps, in the dtype of theta where nothing else is said.

    ``(A, 1)`` are wd, b1, cg, clip, kept_scale ``1 / (1-p)`` of dropout and the label smoothing. ``(S, A, 1)`` are
    decay ``1 - lr*wd_decoupled``, w2 ``1 - b2``, the shares of d and m in u, root ``s*sqrt(c2) / (lr*c1)`` and floor
    ``(s*eps + (1-s)) / (lr*c1)``: with them the last line of the rule is ``theta -= u / (root*sqrt(v) + floor)``; and
    the new weights' share of their average, 1 in a row's first step. int64 are the trials' seeds and kept_from, the
    smallest word that dropout keeps, ``(A,)``, and number, the optimizer steps before each one, ``(S, A)``.
    ``signed (A, 1)`` is true of rows that step by the sign of u.
    ``decays``, ``shared``, ``drops``, ``smooths``, ``averages``, ``signs``: whether any row needs it.
    """

    wd: Tensor
    b1: Tensor
    cg: Tensor
    clip: Tensor
    kept_scale: Tensor
    smoothing: Tensor
    decay: Tensor
    w2: Tensor
    share_d: Tensor
    share_m: Tensor
    root: Tensor
    floor: Tensor
    fresh: Tensor
    seeds: Tensor
    kept_from: Tensor
    number: Tensor
    signed: Tensor
    decays: bool
    shared: bool
    drops: bool
    smooths: bool
    averages: bool
    signs: bool

    @property
    def branches(self) -> tuple[bool, ...]:
        """Which branches of a step are taken."""
        return self.decays, self.shared, self.drops, self.smooths, self.averages, self.signs


TINY = 1e-30  # instead of a learning rate of 0, by which the rule would divide
CHANGING = ("decay", "w2", "share_d", "share_m", "root", "floor", "fresh")  # from step to step, and so does number
CONSTANT = ("wd", "b1", "cg", "clip", "kept_scale", "smoothing", "seeds", "kept_from", "signed")


def coefficients(rows: Rows, active: Tensor, steps: int) -> Coefficients:
    """The coefficients of the rows ``active (A,)``, on the CPU, for their next ``steps`` steps, on theta's device."""
    table = dict(zip(COLUMNS, rows.columns[:, active], strict=True))
    table |= {name: getattr(rows, name)[active].double() for name in ("t", "optimizer")}
    b1, b2, s, eps, corrected, t = (table[name] for name in ("b1", "b2", "s", "eps", "corrected", "t"))
    kinds = table["optimizer"]
    nadam, adagrad = kinds == OPTIMIZERS.index("nadam"), kinds == OPTIMIZERS.index("adagrad")
    number = t + torch.arange(steps, dtype=torch.float64)[:, None]  # (S, A)
    lr = rates(rows, active, steps).clamp(min=TINY)
    c1 = 1.0 / (1.0 - corrected * _powers(b1, t, steps))  # (S, A)
    c2 = 1.0 / (1.0 - corrected * _powers(b2, t, steps))
    w2 = (1.0 - b2).expand_as(number)
    nesterov = table["nesterov"].expand_as(number)
    lion = kinds == OPTIMIZERS.index("lion")
    share_d, share_m = nesterov, 1.0 - nesterov + torch.where(lion, 0.0, nesterov * b1)
    if nadam.any():
        nadam_d, nadam_m = nadam_shares(b1, t, steps, nadam)
        share_d, share_m = torch.where(nadam, nadam_d, share_d), torch.where(nadam, nadam_m, share_m)
        c1 = torch.where(nadam, 1.0, c1)
    if adagrad.any():  # the sum of squares as their mean times their number
        w2, c2 = torch.where(adagrad, 1.0 / (number + 1.0), w2), torch.where(adagrad, number + 1.0, c2)
    columns = {
        "wd": table["wd_coupled"],
        "b1": b1,
        "cg": table["cg"],
        "clip": table["clip"],
        "kept_scale": 1.0 / (1.0 - table["dropout"]),
        "smoothing": table["smoothing"],
        "decay": 1.0 - lr * table["wd_decoupled"],
        "w2": w2,
        "share_d": share_d,
        "share_m": share_m,
        "root": s * c2.sqrt() / (lr * c1),
        "floor": (s * eps + (1.0 - s)) / (lr * c1),
        "fresh": torch.maximum(1.0 - table["ema"], EARLY / (number + EARLY)),
    }
    device = rows.theta.device
    return Coefficients(
        **{name: column.to(rows.theta).unsqueeze(-1) for name, column in columns.items()},
        seeds=rows.seed[active].to(device),
        kept_from=threshold(table["dropout"]).to(device),
        number=number.to(device, torch.int64),
        signed=lion[:, None].to(device),
        signs=bool(lion.any()),
        decays=bool((table["wd_decoupled"] > 0).any()),
        shared=bool((share_d != 0).any() or (share_m != 1).any() or lion.any()),
        drops=bool((table["dropout"] > 0).any()),
        smooths=bool((table["smoothing"] > 0).any()),
        averages=bool((table["ema"] > 0).any()),
    )


def rates(rows: Rows, active: Tensor, steps: int) -> Tensor:
    """The learning rates ``(S, A)`` of the rows ``active (A,)`` in their next ``steps`` steps, in float64.

    Beyond a schedule's end it is that of its last step.
    """
    columns = [getattr(rows, name)[active].tolist() for name in ("schedule", "t", "total", "warmup")]
    lr, known = rows.lr[active], dict[tuple[float, ...], list[float]]()
    for key in zip(*columns, strict=True):
        if key not in known:
            kind, t, total, warmup = key
            at = [min(step, int(total) - 1) for step in range(t, t + steps)]
            known[key] = [factor(SCHEDULES[kind], step, int(total), int(warmup)) for step in at]
    factors = [known[key] for key in zip(*columns, strict=True)]
    return lr * torch.tensor(factors, dtype=torch.float64).T


def _powers(b: Tensor, t: Tensor, steps: int) -> Tensor:
    """``b^(t+1) .. b^(t+steps)`` as ``(S, A)``, by operations whose result does not depend on a row's position."""
    starts = [base**exponent for base, exponent in zip(b.tolist(), t.tolist(), strict=True)]
    return b.repeat(steps, 1).cumprod(dim=0) * torch.tensor(starts, dtype=b.dtype)


def nadam_shares(b1: Tensor, t: Tensor, steps: int, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of d and m in NAdam's u (Dozat 2016), ``(S, A)`` each.

    mu_i = b1 (1 - 0.96^(0.004 i) / 2);  u = (1 - mu_i) / (1 - mu_1 .. mu_i) d + mu_(i+1) / (1 - mu_1 .. mu_(i+1)) m
    """
    shares = torch.zeros(2, steps, len(b1), dtype=b1.dtype)
    for row in torch.nonzero(wanted).flatten().tolist():
        beta, before, product, i = b1[row].item(), int(t[row]), 1.0, 1
        while i <= before and product > 1e-20:  # from there on it is 0 beside 1
            product *= _mu(beta, i)
            i += 1
        for step in range(steps):
            mu, following = _mu(beta, before + step + 1), _mu(beta, before + step + 2)
            product *= mu
            shares[0, step, row] = (1.0 - mu) / (1.0 - product)
            shares[1, step, row] = following / (1.0 - product * following)
    return shares[0], shares[1]


def _mu(beta: float, i: int) -> float:
    return beta * (1.0 - 0.5 * 0.96 ** (0.004 * i))


def update_(theta: Tensor, d: Tensor, m: Tensor, v: Tensor, *, scratch: Tensor, c: Coefficients, step: int) -> None:
    """One step of the rule in place on theta, m, v ``(A, P)``; d holds the clipped gradient and is overwritten."""
    if c.decays:
        theta.mul_(c.decay[step])
    d.addcmul_(theta, c.wd)
    m.mul_(c.b1).addcmul_(d, c.cg)
    v.lerp_(torch.mul(d, d, out=scratch), c.w2[step])
    u = d.mul_(c.share_d[step]).addcmul_(m, c.share_m[step]) if c.shared else m
    if c.signs:
        torch.where(c.signed, torch.sign(u, out=scratch), u, out=u)
    divisor = torch.sqrt(v, out=scratch)
    torch.addcmul(c.floor[step], divisor, c.root[step], out=divisor)
    theta.addcdiv_(u, divisor, value=-1.0)
