#!/usr/bin/env python3
"""Writes monomials.inc for kernels.cu: straight-line code for the monomials of degree <= p in 4 variables, in the
order of m5, and for their backward pass."""


def monomials(p):
    """[(degree, parent, variable)]: each is its parent times a variable."""
    found, begin = [(0, -1, 0)], 0
    for degree in range(1, p + 1):
        end = len(found)
        for parent in range(begin, end):
            first = 0 if found[parent][0] == 0 else found[parent][2]
            found.extend((degree, parent, variable) for variable in range(first, 4))
        begin = end
    return found


def padded(p):
    """Their number, up to a multiple of 8."""
    return (len(monomials(p)) + 7) // 8 * 8


def write(out, p):
    found = monomials(p)
    parents = max(parent for _, parent, _ in found)
    out.write(f"#define PHI{p}_FP {padded(p)}  // {len(found)} monomials\n")
    value = "const float m{f} = m{parent} * z{variable};"
    out.write(f"#define PHI{p}_FORWARD(STORE) const float m0 = 1.f; STORE(0, m0) \\\n")
    for f, (_, parent, variable) in enumerate(found[1:], 1):
        out.write("  " + value.format(f=f, parent=parent, variable=variable) + f" STORE({f}, m{f}) \\\n")
    out.write("  " + " ".join(f"STORE({f}, 0.f)" for f in range(len(found), padded(p))) + "\n")
    out.write(f"#define PHI{p}_PARENTS const float m0 = 1.f; \\\n")
    for f, (_, parent, variable) in enumerate(found[1:parents + 1], 1):
        out.write("  " + value.format(f=f, parent=parent, variable=variable) + " \\\n")
    # Children before parents: g is the gradient of a monomial, d that of a variable.
    out.write(f"\n#define PHI{p}_BACKWARD(LOAD) \\\n")
    for f in range(parents + 1):
        out.write(f"  float g{f} = LOAD({f}); \\\n")
    for f in range(len(found) - 1, 0, -1):
        _, parent, variable = found[f]
        g = f"g{f}" if f <= parents else f"LOAD({f})"
        out.write(f"  {{ const float g = {g}; g{parent} = fmaf(g, z{variable}, g{parent}); "
                  f"d{variable} = fmaf(g, m{parent}, d{variable}); }} \\\n")
    out.write("  (void)g0;\n\n")


if __name__ == "__main__":
    with open("monomials.inc", "w", encoding="ascii") as file:
        for degree in (2, 4, 6):
            write(file, degree)
