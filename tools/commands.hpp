// The commands of m5: one function per word, one file per function (tools/cmd_*.cpp).
#pragma once

namespace m5 {

// argv[0] is the word of the command, argv[1..argc-1] its arguments. Returns the exit code (0: done
// and every byte written) or throws m5::Error, which main prints as `m5 WORD: message`.
int cmd_train(int argc, char** argv);
int cmd_embed(int argc, char** argv);
int cmd_score(int argc, char** argv);
int cmd_bench(int argc, char** argv);

}  // namespace m5
