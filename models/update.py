"""The one update rule that is SGD, momentum, RMSprop, Adam or AdamW, depending on each row's coefficients.

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

b2 = 1 keeps v at zero where it is not used.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.models.dropout import threshold
from sweeper.models.rows import COLUMNS, Rows


class Coefficients(NamedTuple):
    """The columns of A rows for S steps, in the dtype of theta where nothing else is said.

    decay ``1 - lr*wd_decoupled``, wd, b1, cg, w2 ``1 - b2``, clip, and nesterov's shares of d and m are ``(A, 1)``.
    root ``s*sqrt(c2) / (lr*c1)`` and floor ``(s*eps + (1-s)) / (lr*c1)`` are ``(S, A, 1)``: with them the last line
    of the rule is ``theta -= u / (root*sqrt(v) + floor)``. Of dropout, kept_scale ``1 / (1-p)`` is ``(A, 1)``;
    int64 are the trials' seeds and kept_from, the smallest word that is kept, ``(A,)``, and number, the optimizer
    steps before each one, ``(S, A)``. ``decays``, ``nesterov``, ``drops``: whether any row needs it.
    """

    decay: Tensor
    wd: Tensor
    b1: Tensor
    cg: Tensor
    w2: Tensor
    clip: Tensor
    share_d: Tensor
    share_m: Tensor
    root: Tensor
    floor: Tensor
    kept_scale: Tensor
    seeds: Tensor
    kept_from: Tensor
    number: Tensor
    decays: bool
    nesterov: bool
    drops: bool

    def at(self, step: int) -> dict[str, Tensor]:
        """The tensors of one step; those that change from step to step keep a leading dimension of 1."""
        found = {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}
        return found | {name: found[name][step : step + 1] for name in PER_STEP}


PER_STEP = ("root", "floor", "number")


def coefficients(rows: Rows, active: Tensor, steps: int) -> Coefficients:
    """The coefficients of the rows ``active (A,)`` for their next ``steps`` steps, on the rows' device."""
    table = torch.stack([getattr(rows, name)[active].double() for name in (*COLUMNS, "t")]).cpu()
    lr, wd, wd_decoupled, b1, cg, b2, s, eps, nesterov, clip, corrected, dropout, t = table
    c1 = 1.0 / (1.0 - corrected * _powers(b1, t, steps))  # (S, A)
    c2 = 1.0 / (1.0 - corrected * _powers(b2, t, steps))
    columns = (
        1.0 - lr * wd_decoupled, wd, b1, cg, 1.0 - b2, clip,
        nesterov, 1.0 - nesterov + nesterov * b1,
        s * c2.sqrt() / (lr * c1), (s * eps + (1.0 - s)) / (lr * c1), 1.0 / (1.0 - dropout),
    )  # fmt: skip
    tensors = dict(zip(Coefficients._fields, (c.to(rows.theta).unsqueeze(-1) for c in columns), strict=False))
    number = t.to(torch.int64) + torch.arange(steps)[:, None]
    return Coefficients(
        **tensors,
        seeds=rows.seed[active],
        kept_from=threshold(dropout).to(rows.theta.device),
        number=number.to(rows.theta.device),
        decays=bool((wd_decoupled > 0).any()),
        nesterov=bool((nesterov > 0).any()),
        drops=bool((dropout > 0).any()),
    )


def _powers(b: Tensor, t: Tensor, steps: int) -> Tensor:
    """``b^(t+1) .. b^(t+steps)`` as ``(S, A)``, by operations whose result does not depend on a row's position."""
    starts = [base**exponent for base, exponent in zip(b.tolist(), t.tolist(), strict=True)]
    return b.repeat(steps, 1).cumprod(dim=0) * torch.tensor(starts, dtype=b.dtype)


def update_(theta: Tensor, d: Tensor, m: Tensor, v: Tensor, *, scratch: Tensor, c: Coefficients, step: int) -> None:
    """One step of the rule in place on theta, m, v ``(A, P)``; d holds the clipped gradient and is overwritten."""
    if c.decays:
        theta.mul_(c.decay)
    d.addcmul_(theta, c.wd)
    m.mul_(c.b1).addcmul_(d, c.cg)
    v.lerp_(torch.mul(d, d, out=scratch), c.w2)
    u = d.mul_(c.share_d).addcmul_(m, c.share_m) if c.nesterov else m
    divisor = torch.sqrt(v, out=scratch)
    torch.addcmul(c.floor[step], divisor, c.root[step], out=divisor)
    theta.addcdiv_(u, divisor, value=-1.0)
