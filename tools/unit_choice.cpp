#include "tools/unit_choice.hpp"

#include "m5/error.hpp"

namespace m5 {

void add_unit_options(CLI::App& app, UnitChoice& choice) {
  add_size(app, "--window", choice.window, "nt of a window (default 1000)", 1);
  add_size(app, "--step", choice.step, "nt from one window to the next (default: the window)", 1);
  app.add_option("--features", choice.features,
                 "BED, GFF3 or GenBank file (plain or gzip) for --per feature")
      ->option_text("FILE");
  app.add_option("--feature-type", choice.feature_options.type,
                 "only features of this type (GFF3: column 3)")
      ->option_text("TYPE");
  app.add_option("--feature-name", choice.feature_options.name_attribute,
                 "what names a feature (default: ID, then locus_tag, then Name)")
      ->option_text("ATTRIBUTE");
}

void check_unit_options(const CLI::App& app, const CommonOptions& common, UnitChoice& choice) {
  const auto refuse = [](const std::string& message) { throw Error(ErrorKind::kUsage, message); };
  const bool features = choice.per == "feature";
  if (features && choice.features.empty()) refuse("--per feature needs --features FILE");
  if (!features && !choice.features.empty()) refuse("--features goes with --per feature");
  for (const char* option : {"--feature-type", "--feature-name"}) {
    if (app.count(option) > 0 && choice.features.empty()) {
      refuse(std::string(option) + " needs --features");
    }
  }
  choice.feature_options.allow_no_eof = common.allow_no_eof;
  if (choice.per != "window" && app.count("--window") + app.count("--step") > 0) {
    refuse("--window and --step go with --per window");
  }
  if (choice.step == 0) choice.step = choice.window;
}

std::string unit_settings(const UnitChoice& choice) {
  std::string settings = "per=" + choice.per;
  if (choice.per == "window") {
    settings += " window=" + std::to_string(choice.window) + " step=" + std::to_string(choice.step);
  }
  return settings;
}

}  // namespace m5
