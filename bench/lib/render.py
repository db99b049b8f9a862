"""Writes the figures to docs/explanation/performance.md, between its markers, and a plot of each scenario beside it."""

import html
import os
import statistics
import textwrap

from lib.scenarios import SCENARIOS, judged
from lib.testbed import ROOT

PAGE = os.path.join(ROOT, "docs/explanation/performance.md")
PLOTS = os.path.join(ROOT, "docs/performance")
# The names of the servers on the page.
PICTURES = "../performance"
BLOCKS = ("measured", "targets")

WIDTH, LABEL, RIGHT, ROW, TOP = 760, 210, 70, 26, 44
# Legible on white and on black. If the reader's choice of a colour scheme is known, it is used.
STYLE = """
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #57606a }
  .title { font-size: 15px; font-weight: 600 } .ours { font-weight: 600 }
  .bar { fill: #afb8c1 } .bar.ours { fill: #2f81f7 } .range { stroke: #57606a } .grid { stroke: #afb8c1; stroke-opacity: .4 }
  @media (prefers-color-scheme: dark) { text { fill: #c9d1d9 } .bar { fill: #57606a } .range { stroke: #c9d1d9 } }
"""


def publish(figures):
    page = open(PAGE).read()
    for name, text in zip(BLOCKS, (measured(figures), targets(figures))):
        page = replaced(page, name, text)
    os.makedirs(PLOTS, exist_ok=True)
    for name, result in figures["scenarios"].items():
        with open(os.path.join(PLOTS, f"{name}.svg"), "w") as file:
            file.write(plot(name, result))
    with open(PAGE, "w") as file:
        file.write(page)


def replaced(page, name, text):
    """The page with the text between the markers of this name replaced."""
    begin, end = f"<!-- {name}: what follows is written by bench/compare.py -->", f"<!-- {name}: the end -->"
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE} has no markers for this block:\n{begin}\n{end}")
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n\n{text}\n{end}{rest.split(end, 1)[1]}"


def measured(figures):
    parts = [about(figures)]
    parts += [section(name, figures["scenarios"][name], figures) for name in SCENARIOS if name in figures["scenarios"]]
    if figures.get("scale"):
        parts.append(scale(figures["scale"]))
    return "\n".join(parts)


def fill(text, indent=""):
    """The text in lines of at most 120 columns."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)


def about(figures):
    machine = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    return fill(f"Measured on {figures['when']} on {machine['cores']} cores of {machine['cpu']} with {machine['memory']} of memory, Linux {machine['kernel']}; {versions}. "
                f"{figures['rounds']} rounds, each server {figures['seconds']} s a round after 1 s of warm-up. The raw figures are in [figures.json]({PICTURES}/figures.json).") + "\n"


def targets(figures):
    lines = ["| scenario | | found | target | |", "| --- | --- | --- | --- | --- |"]
    for name, scenario in SCENARIOS.items():
        if name not in figures["scenarios"]:
            continue
        rows, _ = judged(name, figures["scenarios"][name])
        title = f"[{scenario.title}](#{name})"
        for ours, theirs, found, limit, met in rows:
            beside = f"{label(name, ours)} / {label(name, theirs)}" if theirs else "Portcullis"
            unit = "" if theirs else f" {scenario.unit}"
            lines.append(f"| {title} | {beside} | {'' if met else '**'}{found:.{2 if theirs else 1}f}{unit}{'' if met else '**'} | ≤ {limit:g}{unit} | {'met' if met else '**missed**'} |")
            title = ""
    return "\n".join(lines) + "\n"


KINDS = {"routes": "routes", "clients": "clients", "tokens": "tokens"}


def label(scenario, server):
    base = server.removesuffix(" again")
    base = f"{base} {KINDS[scenario]}" if scenario in KINDS else base.replace("portcullis", "Portcullis")
    return base + server[len(server.removesuffix(" again")):]


def section(name, result, figures):
    scenario = SCENARIOS[name]
    command = scenario.command.format(seconds=figures["seconds"], connections=f"{result.get('connections', 0):,}")
    _, again = judged(name, result)
    facts = [f"Command: `bench/compare.py --only {name}`", f"Load: `{command}`"]
    if "rate" in result:
        facts.append(f"Rate: {result['rate']:,.0f} requests a second")
    if again:
        facts.append(f"Control, the same server twice in each round: {again:.2f}{'' if abs(again - 1) <= 0.05 else ', too noisy'}")
    facts += [f"{label(name, server)}: {count} measurements void" for server, count in result.get("void", {}).items()]
    values = ((server, statistics.median(each)) for server, each in result["values"].items() if not server.endswith(" again"))
    values = ", ".join(f"{label(name, server)} {middle:,.{1 if middle < 100 else 0}f}" for server, middle in values)
    parts = [f'<a id="{name}"></a>', f"### {scenario.title}", fill(f"![{scenario.unit}: {values}]({PICTURES}/{name}.svg)")]
    parts += [fill(scenario.note)] if scenario.note else []
    parts.append("\n".join(fill(f"- {fact}", "  ") for fact in facts))
    text = "\n\n".join(parts) + "\n"
    return text + (growth(result) if result.get("growth") else "")


def growth(result):
    points = result["growth"]
    shown = [points[len(points) * n // 6] for n in range(6)] + [points[-1]]
    lines = ["", "While the million went by:", "", "| tokens seen | CPU per request, each with a token never seen before | resident memory |", "| --- | --- | --- |",
             f"| 10 | | {result['idle'] / 1024:.0f} MiB |"]
    lines += [f"| {seen:,} | {cost:.1f} µs | {memory / 1024:.0f} MiB |" for seen, cost, memory in shown]
    return "\n".join(lines) + "\n"


def scale(rows):
    """Rows of bench/scale.py: the kind, the number, milliseconds to the first answer, KiB."""
    text = ("One worker. The start is measured from the start of the process to the first answer over TLS, with signing keys present, and the "
            "resident memory then. Connections are idle, and each has had an answer. Command: `bench/scale.py`")
    lines = ["### Scale", "", fill(text), "", "| | number | start | resident memory |", "| --- | --- | --- | --- |"]
    lines += [f"| {kind} | {number:,} | {f'{start:,.0f} ms' if start else ''} | {memory / 1024:,.1f} MiB |" for kind, number, start, memory in rows]
    return "\n".join(lines) + "\n"


def plot(name, result):
    """Horizontal bars, the shortest first; the thin line is the range over the rounds."""
    rows = sorted(((statistics.median(values), min(values), max(values), server) for server, values in result["values"].items()
                   if not server.endswith(" again")))
    longest = max(high for _, _, high, _ in rows)
    scale_of = (WIDTH - LABEL - RIGHT) / longest
    height = TOP + ROW * len(rows) + 12
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
             f"<style>{STYLE}</style>", f'<text class="title" x="8" y="22">{html.escape(SCENARIOS[name].title)}</text>',
             f'<text x="{WIDTH - 8}" y="22" text-anchor="end">{html.escape(SCENARIOS[name].unit)}</text>',
             f'<line class="grid" x1="{LABEL}" y1="{TOP - 6}" x2="{LABEL}" y2="{height - 8}"/>']
    for number, (middle, low, high, server) in enumerate(rows):
        y, ours = TOP + ROW * number, " ours" if server.startswith("portcullis") or server in ("10,000", "100,000", "1,000,000") else ""
        centre = y + 9
        parts += [f'<text class="{ours.strip()}" x="{LABEL - 8}" y="{y + 13.5}" text-anchor="end">{html.escape(label(name, server))}</text>',
                  f'<rect class="bar{ours}" x="{LABEL}" y="{y}" width="{middle * scale_of:.1f}" height="18" rx="2"/>']
        if high > low:
            parts.append(f'<line class="range" x1="{LABEL + low * scale_of:.1f}" y1="{centre}" x2="{LABEL + high * scale_of:.1f}" y2="{centre}"/>')
        parts.append(f'<text class="{ours.strip()}" x="{LABEL + high * scale_of + 6:.1f}" y="{y + 13.5}">{middle:,.{1 if middle < 100 else 0}f}</text>')
    return "\n".join(parts) + "\n</svg>\n"
