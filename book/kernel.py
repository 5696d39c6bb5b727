"""How a kernel of the book shows its figures: build.py makes this its configuration of IPython.

As SVG and as fine PNG, of which a page takes one; on no ground, to stand on light and on dark; and in words.
"""
c = get_config()  # noqa: F821

c.InlineBackend.figure_formats = {"retina", "svg"}
c.InlineBackend.rc = {"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
                      "svg.fonttype": "path", "svg.hashsalt": "rhmdiff"}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "metadata": {"Date": None}}

# IPython forgets printers of figures when it chooses their formats; a method of the class it asks again.
c.InteractiveShellApp.exec_lines = ["""
def _figures_in_words():
    from matplotlib.figure import Figure
    from rhmdiff.plots import described
    Figure._repr_pretty_ = lambda fig, p, cycle: p.text(described(fig))
_figures_in_words()
del _figures_in_words
"""]
