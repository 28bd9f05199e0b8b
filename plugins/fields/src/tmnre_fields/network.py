"""The estimator's network: data to information about the field, pixel by pixel and from afar.

It starts from a line: of x and, where fields enter through a function, its softened logarithm asinh(x / 2 s), the one
more correlated with the field A z is regressed on it, h = alpha + beta A z + scatter, so that at first every pixel
holds the pseudo-datum y = (h - alpha) / beta with precision d = beta^2 / var(scatter).  For a linear model that is the
end of it.  A U-Net of the data, of y and of its homogeneous Wiener filter (what the pixel's surroundings say of it, as
far as a line can tell), with a network pixel by pixel on top, corrects both,

    y -> y + sd f_1(x),    log d -> log d + f_2(x),

and starts from zero.  The pull is h = d y: the posterior mean is the Wiener filter of learned pseudo-data.

Of several components, in linear data of several channels, what else is common to the channels (`FieldModel.nuisance`)
would hide what their differences tell, if each channel had a precision of its own.  They are first turned into
combinations in which noise and the rest are uncorrelated, on average over pixels: for two channels that share a
nuisance, their weighted mean and their difference.

s is the noise.  Poisson counts are first divided by their exposure, so that x estimates the signal wherever it is seen;
s is one count then, and the softened logarithm is taken relative to that of the channel's mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tmnre import UNet
from tmnre.device import with_tensors
from tmnre_fields.forward import FieldModel
from tmnre_fields.information import Information
from tmnre_fields.posterior import Posterior
from tmnre_fields.response import Response


@dataclass(frozen=True)
class Network:
    """How large the network is."""

    widths: tuple[int, ...] = (8, 16, 32)
    """channels of the U-Net at every level, finest first; levels reach twice as far each"""
    hidden: int = 16
    """width of the network pixel by pixel behind it"""
    low_rank: int = 0
    """rank of the part of the precision that ties distant pixels (an offset, a gain common to all); 0: none"""
    mode_bins: int = 0
    """bins in log |k| of the part of the precision that is diagonal in modes; 0: none"""


class InformationNet(nn.Module):
    """Data {"x": (N, V, *grid)} to `Information`; made from a batch of simulations z (N, C, *mode_shape), x."""

    def __init__(self, model: FieldModel, z: Tensor, x: Tensor, settings: Network = Network()) -> None:  # noqa: B008
        super().__init__()
        self.model, self.settings = model, settings
        self._keep("observed", model.observed)
        self.counts = model.exposure is not None
        # of one component all channels tell the same, and those that are not seen together cannot be combined
        several = min(model.response.components, model.response.channels) > 1
        alike = bool((self.observed == self.observed[:1]).all())
        self.linear = model.linear and not self.counts
        self.combines = model.nuisance is not None and several and alike and self.linear
        if self.combines:
            self._keep("combined", self._uncorrelated(x - model.signal(z)))
            x = self._calibrated(x)
        response = self.response
        if self.counts:
            exposure = torch.as_tensor(model.exposure, dtype=torch.float32).expand_as(self.observed)
            # where there are no data it may be zero, and any number will do
            exposure = torch.where(self.observed > 0, exposure, exposure[self.observed > 0].mean())
            self._keep("exposure", exposure)
            self._keep("softening", 1 / exposure)
            x = self._calibrated(x)
            seen = self.observed.flatten(1)
            level = (x.mean(0).flatten(1) * seen).sum(1) / seen.sum(1)
            along = (-1, *(1,) * len(response.grid))
            self._keep("level", torch.asinh(level.view(along) / (2 * self.softening)))
        else:
            noise = torch.as_tensor(model.noise, dtype=torch.float32).expand_as(self.observed)
            if self.combines:
                noise = torch.einsum("uv,v...->u...", self.combined.square(), noise.square()).sqrt()
            self._keep("softening", noise)
        inhomogeneous = bool((self.softening != self.softening.flatten()[0]).any())
        self._fit_line(response(z), x)
        self._keep("power", model.power().mean(0, keepdim=True) if model.fixed else _power(z))
        constant = [self.observed] if model.mask is not None else []
        constant += [self.softening.log() - self.softening.log().mean()] if inhomogeneous else []
        self._keep("constant", torch.cat(constant) if constant else torch.zeros(0, *response.grid))
        channels = self._channels(x)
        images = response.sky.images(channels)
        outputs = response.channels * (2 + settings.low_rank)
        self.unet = UNet({"x": images}, out_channels=settings.hidden, widths=settings.widths)
        count = channels.shape[1]
        mean, scale = _moments(channels)
        self._keep("mean", mean)
        self._keep("scale", scale)
        self.head = nn.Sequential(
            nn.Conv2d(count + settings.hidden, 2 * settings.hidden, 1),
            nn.GELU(),
            nn.Conv2d(2 * settings.hidden, settings.hidden, 1),
            nn.GELU(),
            nn.Conv2d(settings.hidden, outputs, 1),
        ).to(memory_format=torch.channels_last)
        with torch.no_grad():
            self.head[-1].weight.zero_()
            self.head[-1].bias.zero_()
            if settings.low_rank:
                # zero would be a saddle: the gradient of u u^T vanishes with u
                self.head[-1].weight[2 * response.channels :].normal_(0, 1e-2)
        if settings.mode_bins:
            k = response.sky.wavenumber.float()
            position = torch.log1p(k) / torch.log1p(k.max()) * (settings.mode_bins - 1)
            nodes = torch.arange(settings.mode_bins).view(-1, *(1,) * k.ndim)
            # straight lines between the bins
            self._keep("nodes", (1 - (position - nodes).abs()).clamp_min(0))
            self.mode = nn.Linear(2 * settings.hidden, settings.mode_bins * response.components)
            with torch.no_grad():
                self.mode.weight.zero_()
                # a hundredth of the prior's own precision: next to nothing
                self.mode.bias.fill_(-4.6)

    def _apply(self, fn, recurse=True):
        # the model's tensors go where the network's go
        self.model = with_tensors(self.model, fn)
        return super()._apply(fn, recurse)

    def _keep(self, name: str, values: Tensor) -> None:
        # a copy: an expanded tensor cannot be loaded into
        self.register_buffer(name, values.detach().clone(memory_format=torch.contiguous_format))

    @property
    def response(self) -> Response:
        """What `Information` is of: the model's, of combinations of its channels where these are uncorrelated."""
        response = self.model.response
        return replace(response, combined=self.combined) if self.combines else response

    def _uncorrelated(self, rest: Tensor) -> Tensor:
        """Combinations (V, V) of channels in which both the noise and all of the rest (N, V, *grid) are uncorrelated.

        Each is of unit noise.  Exact in every pixel if noise differs between them by a factor common to all channels.
        """
        where = self.observed[0] > 0
        rest = rest[:, :, where].movedim(1, 0).flatten(1).double()
        sd = torch.as_tensor(self.model.noise).expand_as(self.observed)[:, where].double().square().mean(1).sqrt()
        _, vectors = torch.linalg.eigh(torch.cov(rest) / (sd[:, None] * sd))
        return (vectors.T / sd).float()

    def _fit_line(self, truth: Tensor, x: Tensor) -> None:
        """The pixelwise line, per channel, over all pixels with data."""
        fits, soft = [], self._softened(x)
        for v in range(truth.shape[1]):
            where = self.observed[v] > 0
            t = truth[:, v, where]
            # of linear data the logarithm may correlate more, but only because it is relative to uneven noise
            options = [x[:, v, where], soft[:, v, where]][: 1 if self.linear else 2]
            t_mean, t_var = t.mean(), t.var()
            best = None
            for number, h in enumerate(options):
                beta = ((h - h.mean()) * (t - t_mean)).mean() / t_var
                scatter = (h - h.mean() - beta * (t - t_mean)).square()
                explained = beta.square() * t_var / scatter.mean()
                if best is None or explained > best[0]:
                    spread = scatter.mean(0)
                    best = (explained, number, h.mean() - beta * t_mean, beta, spread)
            _, number, alpha, beta, spread = best
            if float(best[0]) < 1e-4:
                raise ValueError("the data do not correlate with the field in any pixel; is it the right response?")
            precision = torch.zeros_like(self.observed[v])
            precision[where] = beta.square() / self._smooth(spread, self._known[v, where], len(x))
            fits.append((torch.tensor(float(number)), alpha, beta, precision))
        logarithm, alpha, beta, precision = (torch.stack(part) for part in zip(*fits, strict=True))
        along = (-1, *(1,) * (truth.ndim - 2))
        self._keep("logarithm", logarithm.view(along))
        self._keep("alpha", alpha.view(along))
        self._keep("beta", beta.view(along))
        self._keep("precision", precision)

    @property
    def _known(self) -> Tensor:
        """What the variance of the noise is proportional to (V, *grid)."""
        return self.softening if self.counts else self.softening.square()

    @staticmethod
    def _smooth(spread: Tensor, known: Tensor, n: int) -> Tensor:
        """The scatter of pixels (P,): a line in the noise's variance, or itself where n simulations refuse the line.

        Pixel by pixel it is known to sqrt(2 / n) only, and that error stays: the network does not see it.
        """
        smooth, known = spread.mean().expand_as(spread), known / known.mean()
        # twice, because a pixel's weight is its scatter's
        for _ in range(2):
            weight = smooth.reciprocal().square()
            weight = weight / weight.sum()
            apart = known - (weight * known).sum()
            slope = (weight * apart * spread).sum() / (weight * apart.square()).sum().clamp_min(1e-8)
            smooth = ((weight * spread).sum() + slope * apart).clamp_min(1e-3 * spread.mean())
        refused = (spread / smooth - 1).square().mean() > 4 * 2 / n
        return spread if refused else smooth

    def _calibrated(self, x: Tensor) -> Tensor:
        """Data in units of the signal, in the combinations of channels that are used."""
        if self.combines:
            return torch.einsum("uv,nv...->nu...", self.combined, x)
        return x / self.exposure if self.counts else x

    def _softened(self, x: Tensor) -> Tensor:
        """Logarithm of calibrated data far above the noise, a line below it."""
        soft = torch.asinh(x / (2 * self.softening))
        return soft - self.level if self.counts else soft

    def line(self, x: Tensor) -> Tensor:
        """Pseudo-data y of the line (N, V, *grid) of calibrated data."""
        h = torch.where(self.logarithm > 0.5, self._softened(x), x)
        return (h - self.alpha) / self.beta

    def _channels(self, x: Tensor) -> Tensor:
        """What the networks read (N, channels, *grid)."""
        y = self.line(x) * self.observed
        pull = (self.precision * y).to(x)
        start = Posterior(Information(self.response, self.precision[None], pull), self.power)
        # M^-1 b: the Wiener filter if noise were everywhere alike
        wiener = self.response(start.coloured(start.whitened(start.information.b())))
        soft = self._softened(x)
        constant = self.constant.expand(len(x), *self.constant.shape)
        return torch.cat([soft * self.observed, y, wiener, constant], 1)

    def forward(self, x: dict[str, Tensor]) -> Information:
        x = self._calibrated(x["x"])
        response = self.response
        channels = self._channels(x)
        images = response.sky.images(channels)
        maps = self.unet({"x": images})
        along = (1, -1, *(1,) * (images.ndim - 2))
        standard = (images - self.mean.view(along)) / self.scale.view(along)
        joined = torch.cat([standard, maps], 1).contiguous(memory_format=torch.channels_last)
        out = response.sky.from_images(self.head(joined).contiguous())
        shift, factor, *ranks = out.split(response.channels, 1)
        sd = self.precision.clamp_min(1e-30).rsqrt()
        # a factor of e^8 either way is more than any posterior needs, and keeps a first step finite
        pixel = self.precision * torch.exp(8 * torch.tanh(factor / 8))
        y = self.line(x) * self.observed + sd * self.observed * shift
        low_rank = torch.stack(ranks, 1) * self.observed / sd.clamp_max(1e10) if ranks else None
        if low_rank is not None:
            low_rank = low_rank / self.observed.sum().sqrt()
        mode = None
        if self.settings.mode_bins:
            pooled = torch.cat([maps.mean((-1, -2)), maps.amax((-1, -2))], 1)
            bins = self.mode(pooled.unflatten(0, (len(x), -1)).mean(1)).unflatten(1, (response.components, -1))
            mode = torch.einsum("ncb,b...->nc...", bins, self.nodes).exp() / self.power
        return Information(response, pixel, pixel * y, mode, low_rank)


def _power(z: Tensor) -> Tensor:
    """Mean power per mode (1, C, *mode_shape) of simulations."""
    return (z.real.square() + z.imag.square()).mean(0, keepdim=True).clamp_min(1e-12)


def _moments(channels: Tensor) -> tuple[Tensor, Tensor]:
    axes = (0, *range(2, channels.ndim))
    return channels.mean(axes), channels.std(axes).clamp_min(1e-6)
