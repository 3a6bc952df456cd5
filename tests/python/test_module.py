"""The Python module m5 gives the numbers of the commands, to the bit, and errors for what is none.

Run by ctest with PYTHONPATH, M5 (the program) and MAKE_TINY_MODEL (tests/cli) in the environment.
"""

import gzip
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy as np

import m5

M5 = os.environ["M5"]
MAKER = os.environ["MAKE_TINY_MODEL"]
LAMBDA = "/usr/share/doc/bowtie2/examples/reference/lambda_virus.fa.gz"
if not os.path.exists(LAMBDA):
    LAMBDA = LAMBDA[:-3]


def read_lambda():
    opener = gzip.open if LAMBDA.endswith(".gz") else open
    with opener(LAMBDA, "rt") as file:
        return "".join(line.strip() for line in file if not line.startswith(">"))


GENOME = read_lambda()
# Of every kind: N and other codes, lower case, one base, none, lengths on both sides of a tile.
RECORDS = [
    GENOME[:5000],
    GENOME[5000:6000].lower() + "N" * 30 + GENOME[7000:7500],
    "A",
    "NNNN",
    "RYSWKMACGUacgu",
    GENOME[10000:12049],
]


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.folder.name)
        cls.tiny = str(cls.work / "tiny.safetensors")
        subprocess.run([MAKER, cls.tiny], check=True)
        cls.fasta = str(cls.work / "records.fa")
        with open(cls.fasta, "w") as file:
            for i, record in enumerate(RECORDS):
                file.write(f">r{i}\n{record}\n")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def m5(self, *arguments):
        run = subprocess.run([M5, *arguments], capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def same_bits(self, a, b):
        self.assertEqual(a.dtype, np.float32)
        self.assertEqual(a.shape, b.shape)
        self.assertTrue(np.array_equal(a.view(np.uint32), np.ascontiguousarray(b).view(np.uint32)))


class Scores(Case):
    def table(self, *arguments):
        """Rows of m5 score -O tsv by record: positions, and probabilities of the four bases as text."""
        text = self.m5("score", "-O", "tsv", "--digits", "17", "--no-header", *arguments)
        rows = {}
        for line in text.splitlines()[1:]:
            name, position, base, *p = line.split("\t")
            rows.setdefault(name, []).append((int(position), base, p))
        return rows

    def check(self, fasta, records, names, arguments, **options):
        rows = self.table(*arguments, fasta)
        four = m5.score(records, all_bases=True, **options)
        one = m5.score(records, **options)
        for name, record, log_probs, log_p in zip(names, records, four, one):
            expected = rows.get(name, [])
            tokens = m5.tokenize(record)
            at = np.flatnonzero(tokens < 4)
            self.assertEqual([position for position, _, _ in expected], at.tolist())
            self.assertTrue(np.isnan(log_probs[tokens >= 4]).all())
            self.assertTrue(np.isnan(log_p[tokens >= 4]).all())
            self.assertEqual(log_probs.shape, (len(record), 4))
            self.same_bits(log_p[at], log_probs[at, tokens[at]])
            # The text is std::exp of the value in double, whose last bits may differ from numpy's
            # exp: 2^-50 of it, where two floats that follow each other are 2^-24 apart.
            text = np.array([[float(x) for x in p] for _, _, p in expected]).reshape(-1, 4)
            values = np.exp(log_probs[at].astype(np.float64))
            np.testing.assert_allclose(values, text, rtol=2e-15, atol=1e-17)
            self.assertEqual("".join(base for _, base, _ in expected), "".join("ACGT"[t] for t in tokens[at]))

    def test_every_option_on_records_of_every_kind(self):
        names = [f"r{i}" for i in range(len(RECORDS))]
        model = m5.Model(self.tiny, threads=2)
        for options in (
            {},
            {"strand": "reverse"},
            {"strand": "both"},
            {"passes": 3},
            {"unmasked": True},
            {"circular": True},
            {"context": "file", "strand": "both"},
        ):
            with self.subTest(options):
                arguments = ["-m", self.tiny, "-@", "1"]
                for name, value in options.items():
                    arguments += [f"--{name}"] + ([] if value is True else [str(value)])
                self.check(self.fasta, RECORDS, names, arguments, model=model, **options)

    def test_the_bundled_model_on_lambda(self):
        os.environ.pop("M5_MODEL", None)
        log_p = m5.score(GENOME)  # the bundled model
        text = self.m5("score", "--metric", "bits", "--digits", "12", "--no-header", LAMBDA)
        track = np.full(len(GENOME), np.nan)
        for line in text.splitlines():
            _, begin, end, value = line.split("\t")
            track[int(begin) : int(end)] = float(value)
        bits = -log_p.astype(np.float64) / np.log(2)
        np.testing.assert_allclose(bits, track, rtol=1e-15, atol=6e-13)
        self.assertLess(np.nanmean(bits), 2)

    def test_a_genome_memory(self):
        with_memory = str(self.work / "memory.safetensors")
        self.m5("train", "--init", self.tiny, "--memory", "on", "--learn", "memory", "--steps", "5",
                "--segment-length", "1k", "--batch-tokens", "2k", "--lr", "2e-2", "--warmup", "1",
                "--verbosity", "1", "-o", with_memory, self.fasta)
        model = m5.Model(with_memory, threads=2)
        self.assertTrue(model.has_memory)
        repeated = [GENOME[:900] + GENOME[100:700]]
        fasta = str(self.work / "repeated.fa")
        pathlib.Path(fasta).write_text(f">r0\n{repeated[0]}\n")
        for memory in ("on", "off"):
            for strand in ("forward", "both"):
                self.check(fasta, repeated, ["r0"], ["-m", with_memory, "--memory", memory, "--strand", strand],
                           model=model, memory=memory == "on", strand=strand)
        on, off = (m5.score(repeated[0], model=model, memory=memory) for memory in (True, False))
        self.assertFalse(np.array_equal(on, off))

    def test_kinds_of_sequences_are_one(self):
        letters = RECORDS[1]
        tokens = m5.tokenize(letters)
        expected = m5.score(letters, model=self.tiny)
        strided = np.repeat(tokens, 2)[::2]
        for other in (letters.encode(), bytearray(letters.encode()), memoryview(letters.encode()),
                      letters.upper(), tokens, strided):
            self.same_bits(m5.score(other, model=self.tiny), expected)
        self.assertEqual(tokens.dtype, np.uint8)
        for letter, token in zip("ACGTUN", (0, 1, 2, 3, 3, 4)):
            self.assertEqual(m5.tokenize(letter).tolist(), [token])


class Embeddings(Case):
    def npy(self, *arguments):
        path = str(self.work / "out.npy")
        self.m5("embed", "--no-header", "-o", path, *arguments)
        return np.load(path)

    def test_records_windows_and_bases(self):
        model = m5.Model(self.tiny, threads=2)
        for strand in ("both", "forward"):
            for circular in (False, True):
                common = ["-m", self.tiny, "--strand", strand, "--circular" if circular else "--linear", self.fasta]
                options = {"model": model, "strand": strand, "circular": circular}
                for pool in ("mean", "max", "std"):
                    expected = self.npy("--pool", pool, *common)
                    self.same_bits(np.array(m5.embed(RECORDS, pool=pool, **options)), expected)
                    self.same_bits(m5.embed(RECORDS[0], pool=pool, **options), expected[0])
                for layer in (0, 1):
                    expected = self.npy("--layer", str(layer), *common)
                    self.same_bits(np.array(m5.embed(RECORDS, layer=layer, **options)), expected)
                for window, step in ((1000, 1000), (700, 300), (9999, 1), (1, 777)):
                    if circular:
                        continue
                    expected = self.npy("--per", "window", "--window", str(window), "--step", str(step), *common)
                    lists = [m5.windows(len(record), window, step) for record in RECORDS]
                    got = m5.embed(RECORDS, intervals=lists, **options)
                    self.same_bits(np.concatenate(got), expected)
                expected = self.npy("--per", "base", *common)
                self.same_bits(np.concatenate(m5.embed(RECORDS, per="base", **options)), expected)

    def test_the_bundled_model_on_lambda(self):
        os.environ.pop("M5_MODEL", None)
        self.same_bits(m5.embed(GENOME), self.npy(LAMBDA)[0])

    def test_a_gene_and_its_reverse_complement(self):
        gene = GENOME[2000:3000]
        other = gene[::-1].translate(str.maketrans("ACGT", "TGCA"))
        self.same_bits(m5.embed(gene, model=self.tiny), m5.embed(other, model=self.tiny))


class Misuse(Case):
    def refuses(self, kind, part, call):
        with self.assertRaises(kind) as caught:
            call()
        self.assertIsInstance(caught.exception, m5.Error)
        self.assertIn(part, str(caught.exception))

    def test_arguments(self):
        model = m5.Model(self.tiny, threads=1)
        self.refuses(m5.UsageError, "sequence 0: no tokens", lambda: m5.score("", model=model))
        self.refuses(m5.UsageError, "sequence 1: no tokens", lambda: m5.embed(["A", ""], model=model))
        self.refuses(m5.UsageError, "no sequences", lambda: m5.score([], model=model))
        self.refuses(m5.InputError, "position 3: '-'", lambda: m5.score("AC-G", model=model))
        self.refuses(m5.InputError, "position 2: byte", lambda: m5.score("A\u00e9C", model=model))
        bad = np.array([0, 9], dtype=np.uint8)
        self.refuses(m5.UsageError, "position 1: token 9", lambda: m5.embed(bad, model=model))
        for wrong in (5, None, np.zeros(3), np.zeros((2, 2), np.uint8), [1, 2], {"a": 1}.items()):
            with self.assertRaises(TypeError):
                m5.score(wrong, model=model)
        for part, options in (
            ("passes", {"passes": 0}), ("passes", {"passes": -3}), ("strand", {"strand": "up"}),
            ("context", {"context": "all"}), ("circular", {"circular": [True, False]}),
            ("threads belong", {"threads": 2}),
        ):
            self.refuses(m5.UsageError, part, lambda: m5.score("ACGT", model=model, **options))
        for part, options in (
            ("layer", {"layer": 3}), ("layer", {"layer": -1}), ("pool", {"pool": "median"}), ("per", {"per": "gene"}),
            ("interval 0", {"intervals": [(0, 5)]}), ("interval 1", {"intervals": [(0, 4), (-1, 2)]}),
            ("interval 0", {"intervals": [(3, 3)]}), ("64 bits", {"intervals": [(0, 2**63)]}),
            ("intervals", {"intervals": [(0, 1)], "per": "base"}),
        ):
            self.refuses(m5.UsageError, part, lambda: m5.embed("ACGT", model=model, **options))
        self.refuses(m5.UsageError, "lists", lambda: m5.embed(["AC", "GT"], model=model, intervals=[[(0, 1)]]))
        with self.assertRaises(TypeError):
            m5.embed("ACGT", model=model, intervals=[(0, 1.5)])
        self.assertEqual(m5.embed("ACGT", model=model, intervals=[]).shape, (0, model.dim))
        for arguments in ((0, 1), (5, 0), (5, 1, 0), (5, -1)):
            self.refuses(m5.UsageError, "windows", lambda: m5.windows(*arguments))

    def test_models(self):
        self.refuses(m5.IoError, "nowhere", lambda: m5.Model("/nowhere/\udcff"))
        with self.assertRaises(OSError):
            m5.Model(self.work)
        pathlib.Path(self.work / "text").write_text("no model " * 9)
        self.refuses(m5.ModelError, "text", lambda: m5.score("ACGT", model=self.work / "text"))
        self.refuses(m5.UsageError, "threads", lambda: m5.Model(self.tiny, threads=-1))
        self.refuses(m5.UsageError, "precision", lambda: m5.Model(self.tiny, precision="int8"))
        self.refuses(m5.UsageError, "residual", lambda: m5.Model(self.tiny, residual="fp8"))
        self.refuses(m5.UsageError, "device", lambda: m5.Model(self.tiny, device="tpu"))
        self.refuses(m5.ResourceError, "cuda", lambda: m5.Model(self.tiny, device="cuda"))
        wild = str(self.work / "wild.safetensors")
        subprocess.run([MAKER, wild, "1e38"], check=True)
        self.refuses(m5.NumericError, "position", lambda: m5.score("ACGTACGT", model=wild))
        self.assertEqual(m5.Error.exit_code, 1)
        self.assertEqual(m5.NumericError.exit_code, 7)
        model = m5.Model(self.tiny, threads=3)
        self.assertEqual((model.name, model.dim, model.layers, model.threads), ("tiny", 16, 2, 3))
        self.assertEqual((model.path, model.has_memory, len(model.sha256)), (self.tiny, False, 64))
        with self.assertRaises(AttributeError):
            model.parameters


class Threads(Case):
    def test_the_gil_is_free(self):
        model = m5.Model(self.tiny, threads=1)
        ticks, over = [0], threading.Event()

        def count():
            while not over.wait(0.0005):
                ticks[0] += 1

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)  # a thread gives the GIL up when it waits, not for the time
        try:
            counter = threading.Thread(target=count)
            counter.start()
            before = ticks[0]
            m5.score(GENOME, model=model)
            after = ticks[0]
        finally:
            sys.setswitchinterval(interval)
            over.set()
        counter.join()
        self.assertGreater(after, before)

    def test_calls_of_threads_wait_for_each_other(self):
        model = m5.Model(self.tiny, threads=2)
        expected = m5.score(GENOME, model=model)
        results = []
        workers = [threading.Thread(target=lambda: results.append(m5.score(GENOME, model=model))) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(len(results), 3)  # none was refused
        for result in results:
            self.same_bits(result, expected)

    def run_python(self, code):
        return subprocess.run([sys.executable, "-c", code, self.tiny], capture_output=True, text=True, timeout=60)

    def test_after_a_fork(self):
        run = self.run_python(
            "import os, sys, m5\n"
            "model = m5.Model(sys.argv[1], threads=2)\n"
            "before = m5.score('ACGTAC', model=sys.argv[1], threads=2)\n"
            "if os.fork() == 0:\n"
            "    try: m5.score('ACGT', model=model)\n"
            "    except m5.UsageError as error: print('refused:', error)\n"
            "    print((m5.score('ACGTAC', model=sys.argv[1], threads=2) == before).all(), flush=True)\n"
            "    sys.exit(0)\n"
            "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        )
        self.assertEqual(run.stderr, "")
        lines = run.stdout.splitlines()
        self.assertEqual(len(lines), 3, run.stdout)
        self.assertIn("refused: a session made before fork()", lines[0])
        self.assertEqual(lines[1:], ["True", "0"])

    def test_ctrl_c_ends_a_call(self):
        # Calls without end and without a step of Python between them: only a call can see the signal.
        run = self.run_python(
            "import collections, itertools, os, signal, sys, threading, m5\n"
            "model = m5.Model(sys.argv[1], threads=1)\n"
            "sequences = m5._m5.Sequences([m5.tokenize('ACGTTGCA' * 9000)], [False], [0])\n"
            "rest = map(itertools.repeat, (7, 'forward', False, False, True))\n"
            "calls = map(model._model.score, itertools.repeat(sequences), *rest)\n"
            "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "try: collections.deque(calls, maxlen=0)\n"
            "except KeyboardInterrupt: print('stopped')\n"
            "print(m5.score('ACGT', model=model).shape)\n"
        )
        self.assertEqual(run.stdout, "stopped\n(4,)\n", run.stderr)


if __name__ == "__main__":
    unittest.main()
