"""Quantiles, confidence intervals, a table row and a plot.

Standard library only.
"""

import math


def quantile(values, percent):
    """The nearest-rank percentile of sorted values."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]


def wilson(hits, trials):
    """The Wilson interval, which holds the true part with 95 % confidence."""
    if not trials:
        return 0.0, 1.0
    z = 1.96
    part, spread = hits / trials, z * z / trials
    middle = part + spread / 2
    width = z * math.sqrt(part * (1 - part) / trials + spread / trials / 4)
    return max(0.0, (middle - width) / (1 + spread)), (middle + width) / (1 + spread)


def row(what, samples):
    """Prints a table row of percentiles and returns them."""
    figures = {percent: quantile(samples, percent) for percent in (50, 90, 99, 100)}
    print(f"| {what} | " + " | ".join(f"{figures[percent]:.2f} ms" for percent in (50, 90, 99, 100)) + " |")
    return figures


def plot(samples, figures):
    """An SVG: the part of first hashes that were done at each time since the tip."""
    width, height, left, top, right, bottom = 640, 320, 56, 20, 20, 44
    longest = max(10.0, figures[99] * 2)
    x = lambda ms: left + (width - left - right) * min(ms, longest) / longest
    y = lambda part: height - bottom - (height - top - bottom) * part
    points = [f"{x(0):.1f},{y(0):.1f}"]
    for rank, ms in enumerate(samples, 1):
        if ms > longest:
            break
        points.append(f"{x(ms):.1f},{y(rank / len(samples)):.1f}")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for percent in (0, 25, 50, 75, 100):
        at = y(percent / 100)
        lines.append(f'<line x1="{left}" y1="{at:.1f}" x2="{width - right}" y2="{at:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{percent} %</text>')
    step = longest / 5
    for number in range(6):
        at = x(step * number)
        lines.append(f'<text x="{at:.1f}" y="{height - bottom + 18}" text-anchor="middle">{step * number:.3g}</text>')
    for percent, colour in ((50, "#2a7"), (99, "#c40")):
        at = x(figures[percent])
        lines.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{height - bottom}" stroke="{colour}" stroke-dasharray="4 3"/>')
        lines.append(f'<text x="{at + 4:.1f}" y="{top + 12 + (14 if percent == 99 else 0)}" fill="{colour}">'
                     f'{percent} %: {figures[percent]:.2f} ms</text>')
    lines.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="#236" stroke-width="1.5"/>')
    lines.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">'
                 'milliseconds from the node\'s new tip to a miner\'s first hash on it</text>')
    return "\n".join(lines + ["</svg>", ""])
