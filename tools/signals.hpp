// What m5 does when it is told to stop.
#pragma once

namespace m5 {

// SIGINT, SIGTERM, SIGHUP and SIGPIPE remove unfinished output files and then end the process the
// default way, so that a shell sees 130, 143, 129 and 141. A command that can do better (m5 train
// saves a checkpoint) installs its own handlers afterwards.
void install_signal_handlers();

}  // namespace m5
