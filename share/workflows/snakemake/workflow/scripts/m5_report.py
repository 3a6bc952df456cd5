#!/usr/bin/env python3
"""One HTML page about one genome from the track that `m5 score --metric bits` wrote of it.

    m5 score --metric bits -o g.bedgraph.gz g.fa.gz
    m5_report.py --fasta g.fa.gz --track g.bedgraph.gz [--gff g.gff.gz] -o g.html

The page holds its pictures. It appears whole or not at all. Needs numpy and matplotlib.
"""

import argparse
import base64
import html
import io
import os
import sys
import tempfile
from collections import namedtuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

sys.dont_write_bytecode = True  # where m5 is installed nothing is written
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from m5_genome import (  # noqa: E402
    Gene, InputError, gc_values, is_letter, nice_window, read_fasta, read_gff, read_track, span_mean, windows_of)

BITS, GC, FORWARD, REVERSE, REST = "#b2182b", "#2166ac", "#35978f", "#bf812d", "#777777"
ROWS = 20
Span = namedtuple("Span", "contig start end strand name product bits gc percentile")

STYLE = """body{font:15px/1.45 sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%} table{border-collapse:collapse;margin:1em 0} td,th{padding:.2em .8em;text-align:left;
border-bottom:1px solid #ddd;vertical-align:top} td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
pre{background:#f4f4f4;padding:.6em;overflow-x:auto;font-size:12px} .note{color:#555}"""


def png(figure):
    buffer = io.BytesIO()
    # Without the date and the version of matplotlib: the same input gives the same page.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def draw_contigs(contigs, tracks, genes, window):
    """Windowed bits, GC and genes; contigs stand side by side in the order of the file."""
    rows = 3 if genes else 2
    figure, axes = plt.subplots(
        rows, 1, sharex=True, figsize=(14, 5.6 if genes else 4.8), constrained_layout=True,
        gridspec_kw={"height_ratios": [3, 1.6, 0.8][:rows]})
    total = sum(len(sequence) for sequence in contigs.values())
    unit, name = (1e6, "Mb") if total >= 2e6 else (1e3, "kb")
    offset, offsets = 0, {}
    shown = ([], [])
    for index, (contig, sequence) in enumerate(contigs.items()):
        offsets[contig] = offset
        starts, ends = windows_of(len(sequence), window)
        edges = (np.append(starts, len(sequence)) + offset) / unit
        bits = span_mean(tracks[contig], starts, ends)
        gc = 100 * span_mean(gc_values(sequence), starts, ends)
        for axis, values, color, all_values in zip(axes, (bits, gc), (BITS, GC), shown):
            axis.stairs(values, edges, baseline=None, color=color, linewidth=0.9)
            all_values.append(values[np.isfinite(values)])
        if len(contigs) > 1 and index % 2:
            for axis in axes:
                axis.axvspan(offset / unit, (offset + len(sequence)) / unit, color="#f0f0f0", zorder=0, linewidth=0)
        if len(contigs) > 1 and len(sequence) > total / 12:
            axes[0].annotate(contig, ((offset + len(sequence) / 2) / unit, 1.01), ha="center", va="bottom",
                             xycoords=("data", "axes fraction"), fontsize=8, color="#444444")
        offset += len(sequence)
    for axis, values, also in zip(axes, map(np.concatenate, shown), (2, np.nan)):
        if len(values):
            low, high = np.nanmin([values.min(), also]), np.nanmax([values.max(), also])
            axis.set_ylim(low - 0.05 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01)
    scored = np.concatenate([track[np.isfinite(track)] for track in tracks.values()])
    if len(scored):
        axes[0].axhline(scored.mean(dtype=np.float64), color="#555555", linewidth=0.7, linestyle=":")
    axes[0].axhline(2, color="#999999", linewidth=0.7)
    axes[0].set_ylabel("bits a base")
    axes[1].set_ylabel("GC, %")
    if genes:
        for strand, y, color in (("+", 0.55, FORWARD), ("-", 0.0, REVERSE)):
            spans = [((offsets[g.contig] + g.start) / unit, (g.end - g.start) / unit) for g in genes
                     if (g.strand == "-") == (strand == "-")]
            axes[2].broken_barh(spans, (y, 0.45), facecolors=color, linewidth=0)
        axes[2].set_yticks([0.775, 0.225], ["genes +", "genes −"])
        axes[2].tick_params(axis="y", length=0)
        axes[2].set_ylim(-0.05, 1.05)
    axes[-1].set_xlabel(f"position, {name}" + (", contigs side by side" if len(contigs) > 1 else ""))
    axes[-1].set_xlim(0, total / unit)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return png(figure)


def coding_mask(length, genes):
    mask = np.zeros(length, dtype=bool)
    for gene in genes:
        mask[gene.start:gene.end] = True
    return mask


def draw_histogram(contigs, tracks, genes):
    """Bits of single bases; with genes, those within and between them."""
    groups = {"all bases": np.concatenate([track[np.isfinite(track)] for track in tracks.values()])}
    if genes:
        masks = {name: coding_mask(len(sequence), [g for g in genes if g.contig == name])
                 for name, sequence in contigs.items()}
        for label, inside in (("in genes", True), ("between genes", False)):
            groups[label] = np.concatenate(
                [track[np.isfinite(track) & (masks[name] == inside)] for name, track in tracks.items()])
    figure, axis = plt.subplots(figsize=(8, 3.4), constrained_layout=True)
    bins = np.linspace(0, 8, 161)
    for (label, values), color in zip(groups.items(), ("#444444", FORWARD, REVERSE)):
        if not len(values):
            continue
        share, _ = np.histogram(np.minimum(values, bins[-1]), bins)
        axis.stairs(100 * share / len(values), bins, color=color, linewidth=1.4 if label == "all bases" else 1.1,
                    label=f"{label}: {len(values):,} nt, mean {values.mean(dtype=np.float64):.3f}")
    axis.axvline(2, color="#999999", linewidth=0.7)
    axis.set_xlabel("bits of a base (8 and more at the right end)")
    axis.set_ylabel("% of the bases")
    axis.set_xlim(0, 8)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False)
    return png(figure)


def rank(contigs, tracks, genes, least):
    """Genes, or windows of 1,000 nt where there are none, by mean bits: most surprising first."""
    spans = []
    todo = list(genes)
    if not genes:
        for contig, sequence in contigs.items():
            for start, end in zip(*windows_of(len(sequence), 1000)):
                todo.append(Gene(contig, int(start), int(end), ".", "", ""))
    todo = [span for span in todo if span.end - span.start >= least]
    for contig, sequence in contigs.items():
        here = [span for span in todo if span.contig == contig]
        starts = np.array([span.start for span in here], dtype=np.int64)
        ends = np.array([span.end for span in here], dtype=np.int64)
        means = span_mean(tracks[contig], starts, ends)
        gc = span_mean(gc_values(sequence), starts, ends)
        spans += [Span(s.contig, s.start, s.end, s.strand, s.name, s.product, b, g, 0)
                  for s, b, g in zip(here, means, gc) if np.isfinite(b)]
    spans.sort(key=lambda span: (-span.bits, span.contig, span.start))
    return [span._replace(percentile=100 * (len(spans) - i) / len(spans)) for i, span in enumerate(spans)]


def table_of(spans, genes):
    cells = ["<tr>" + ("<th>gene<th>product" if genes else "") + "<th>record<th class=n>from<th class=n>to"
             + ("<th>strand" if genes else "")
             + "<th class=n>nt<th class=n>GC, %<th class=n>bits a base<th class=n>percentile</tr>"]
    for s in spans:
        row = [f"<td>{html.escape(s.name)}<td>{html.escape(s.product)}"] if genes else []
        row.append(f"<td>{html.escape(s.contig)}<td class=n>{s.start + 1:,}<td class=n>{s.end:,}")
        if genes:
            row.append(f"<td>{html.escape(s.strand)}")
        row.append(f"<td class=n>{s.end - s.start:,}<td class=n>{100 * s.gc:.1f}<td class=n>{s.bits:.3f}"
                   f"<td class=n>{s.percentile:.1f}")
        cells.append("<tr>" + "".join(row) + "</tr>")
    return "<table>\n" + "\n".join(cells) + "\n</table>"


def numbers(contigs, tracks, genes):
    lengths = sorted((len(sequence) for sequence in contigs.values()), reverse=True)
    total = sum(lengths)
    half = np.searchsorted(np.cumsum(lengths), total / 2)
    letters = {key: sum(int(is_letter(s, value).sum()) for s in contigs.values())
               for key, value in (("gc", b"GC"), ("acgt", b"ACGTU"))}
    scored = sum(int(np.isfinite(track).sum()) for track in tracks.values())
    bits = sum(float(np.nansum(track, dtype=np.float64)) for track in tracks.values())
    rows = [("records", f"{len(contigs):,}"), ("length, nt", f"{total:,}"), ("N50, nt", f"{lengths[half]:,}"),
            ("GC, %", f"{100 * letters['gc'] / letters['acgt']:.2f}" if letters["acgt"] else "-"),
            ("scored, nt", f"{scored:,}")]
    if scored:
        rows += [("bits a base, mean", f"{bits / scored:.4f}"), ("perplexity", f"{2 ** (bits / scored):.4f}")]
    if genes:
        rows.append(("genes", f"{len(genes):,}"))
    return "<table>" + "".join(f"<tr><th>{k}<td class=n>{v}</tr>" for k, v in rows) + "</table>"


def page(title, header, contigs, tracks, genes, least):
    window = nice_window(sum(len(sequence) for sequence in contigs.values()))
    spans = rank(contigs, tracks, genes, least)
    what = "genes" if genes else "windows of 1,000 nt"
    note = f"Those of fewer than {least} nt are left out. " + ("" if genes else "There is no annotation. ")
    parts = [
        f"<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><title>m5: {html.escape(title)}</title>",
        f"<style>{STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>",
        numbers(contigs, tracks, genes),
        f"<h2>Along the contigs</h2>\n<p class=note>Means over windows of {window:,} nt. The bits of a base are"
        " -log<sub>2</sub> of the probability that the model gave it while it was hidden: 0 is certainty, 2 (grey"
        " line) is no idea, more is a wrong expectation. Dotted: the mean of the genome.</p>",
        f'<img alt="bits, GC and genes along the contigs" src="data:image/png;base64,'
        f'{draw_contigs(contigs, tracks, genes, window)}">',
        f'<h2>Single bases</h2>\n<img alt="histogram of bits" src="data:image/png;base64,'
        f'{draw_histogram(contigs, tracks, genes)}">',
        f"<h2>The {min(ROWS, len(spans))} most surprising {what}</h2>\n<p class=note>By mean bits a base, of"
        f" {len(spans):,}. {note}What comes from elsewhere, is misassembled, or is of a composition of its own"
        " stands here; so does what the model saw little of. Look before you conclude.</p>",
        table_of(spans[:ROWS], genes),
    ]
    if header:
        parts.append("<h2>How the track was made</h2>\n<pre>" + html.escape("\n".join(header)) + "</pre>")
    return "\n".join(parts) + "\n</body></html>\n"


def write_whole(path, text):
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".m5_report.", delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(file.name, 0o666 & ~umask)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fasta", required=True, help="the sequences that were scored (plain or gzip)")
    parser.add_argument("--track", required=True, help="bedGraph of m5 score --metric bits (plain or gzip)")
    parser.add_argument("--gff", help="GFF3 with the genes")
    parser.add_argument("--feature-type", default="CDS", help="column 3 of the genes' rows (default CDS)")
    parser.add_argument("--min-length", type=int, default=150,
                        help="shorter genes are not ranked (default 150 nt)")
    parser.add_argument("--title", help="default: the name of the sequences' file")
    parser.add_argument("-o", "--output", required=True, help="the page")
    args = parser.parse_args(arguments)
    try:
        contigs = read_fasta(args.fasta)
        lengths = {name: len(sequence) for name, sequence in contigs.items()}
        header, tracks = read_track(args.track, lengths)
        genes = read_gff(args.gff, lengths, {args.feature_type}) if args.gff else []
        if args.gff and not genes:
            raise InputError(f"{args.gff}: no {args.feature_type} on a record of {args.fasta}")
        title = args.title or os.path.basename(args.fasta)
        write_whole(args.output, page(title, header, contigs, tracks, genes, args.min_length))
    except (InputError, OSError) as error:
        print(f"m5_report.py: {error}", file=sys.stderr)
        return 5 if isinstance(error, OSError) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
