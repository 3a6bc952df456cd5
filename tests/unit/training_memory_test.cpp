#include "train/training_memory.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "data/tokenizer.hpp"

namespace m5 {
namespace {

GenomeStore some_store() {
  GenomeStore store;
  std::mt19937 random(3);
  int number = 0;
  for (const int length : {3000, 700, 90}) {
    std::vector<Token> tokens;
    while (static_cast<int>(tokens.size()) < length) {
      if (tokens.size() > 60 && random() % 2 == 0) {
        const std::size_t from = random() % (tokens.size() - 25);
        const std::vector<Token> copy(tokens.begin() + static_cast<std::ptrdiff_t>(from),
                                      tokens.begin() + static_cast<std::ptrdiff_t>(from + 25));
        tokens.insert(tokens.end(), copy.begin(), copy.end());
      } else {
        tokens.push_back(static_cast<Token>(random() % 4));
      }
    }
    tokens.resize(static_cast<std::size_t>(length));
    store.add("r" + std::to_string(number++), tokens, length != 700);
  }
  return store;
}

TrainSettings some_settings() {
  TrainSettings settings;
  settings.config.memory.orders = {{1, 1}, {2, 2}, {0, 5}, {5, 0}, {1, 4}, {4, 1}, {0, 9}, {9, 0}};
  settings.memory_records = 2;
  settings.memory_round = 3;
  return settings;
}

// Each row's counts are those of its window, or of its record where the base came from.
TEST(TrainingMemory, CountsOfWindowsAndOfWholeRecords) {
  const GenomeStore store = some_store();
  const TrainSettings settings = some_settings();
  const MemoryConfig& config = settings.config.memory;
  const WindowSampler sampler(store, 0.5);
  TrainingMemory memory(store, settings, serial_for);
  int whole = 0, own = 0, reversed = 0, wrapped = 0;
  for (std::int64_t step = 1; step <= 12; ++step) {
    Batch batch(store);
    for (std::int64_t index = 0; index < 6; ++index) {
      const WindowId id{1, step, index};
      batch.add(memory.draw(sampler, id, 256), id, {});
    }
    std::vector<std::int64_t> rows(static_cast<std::size_t>(batch.rows()));
    std::iota(rows.begin(), rows.end(), 0);
    const std::size_t width = config.orders.size() * kBases;
    std::vector<std::uint32_t> counts(rows.size() * width), expected(width);
    memory.counts(batch)(rows, counts.data());
    const std::uint32_t* actual = counts.data();
    for (const Window& window : batch.windows()) {
      const GenomeRecord& record = store.records[static_cast<std::size_t>(window.record)];
      (window.whole_memory ? whole : own) += 1;
      // The record, or the window, as the window reads it.
      Window read = window;
      if (window.whole_memory) {
        reversed += window.reverse_complement;
        wrapped += window.start + window.length > record.length;
        read.start = 0;
        read.length = record.length;
      }
      std::vector<Token> tokens;
      append_window(store, read, tokens);
      const bool circular = window.whole_memory ? record.circular : window.circular;
      const TokenView view{tokens.data(), read.length, circular, 0};
      const GenomeMemory one({&view, 1}, config.orders, serial_for);
      for (std::int64_t i = 0; i < window.length; ++i, actual += width) {
        std::int64_t position = i;
        if (window.whole_memory) {
          position = window.reverse_complement ? record.length - (window.start + window.length) + i
                                               : window.start + i;
          position = (position % record.length + record.length) % record.length;
        }
        one.counts(0, position, expected.data());
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), actual))
            << "step " << step << ", row " << i << (window.whole_memory ? ", whole" : ", own");
      }
    }
  }
  EXPECT_GT(whole, 5);
  EXPECT_GT(own, 5);
  EXPECT_GT(reversed, 0);
  EXPECT_GT(wrapped, 0);
}

// What a step draws does not depend on the steps before it: a run can be resumed.
TEST(TrainingMemory, DrawsAreFunctionsOfTheStep) {
  const GenomeStore store = some_store();
  const TrainSettings settings = some_settings();
  const WindowSampler sampler(store, 0.5);
  TrainingMemory all(store, settings, serial_for);
  for (std::int64_t step = 1; step <= 9; ++step) {
    TrainingMemory fresh(store, settings, serial_for);
    for (std::int64_t index = 0; index < 8; ++index) {
      const WindowId id{5, step, index};
      EXPECT_EQ(all.draw(sampler, id, 100), fresh.draw(sampler, id, 100));
    }
  }
}

}  // namespace
}  // namespace m5
