// SPDX-License-Identifier: Apache-2.0
// RandomProgram: a program of views, in-place writes, resizes and detached aliases, drawn from a
// seed and run step by step on the CPU and on djinn at once.
//
// Each step is drawn from what the CPU's tensors look like, so that most steps are legal and some
// are not: what the CPU refuses because of a shape, djinn must refuse as well. After each step all
// tensors must have the same geometry; at random steps and at the end they must have the same bits.
// Ownership: holds its tensors. Threading: one thread.
#pragma once

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <ATen/ATen.h>

namespace djinn::testing {

// The tensors of one side, named by their places.
struct Pool {
  at::Device device;
  std::vector<at::Tensor> t;
};
using Act = std::function<at::Tensor(Pool&)>;

// What the CPU refuses because of shapes, djinn refuses at once as well. What the CPU's kernel says
// while it runs, djinn may know only later: such a step ends the program.
enum class Refusal { kAtOnce, kLater };

class RandomProgram {
 public:
  explicit RandomProgram(uint64_t seed, at::Device remote = at::Device("djinn"));

  // Draws and runs so many steps. Returns what differed, or nothing.
  std::optional<std::string> run(int steps);
  [[nodiscard]] const std::vector<std::string>& steps() const { return steps_; }

  // -- for the steps (random_steps.h)
  // One step on both sides. A tensor that it returns joins the pool.
  bool apply(const std::string& text, const Act& act, Refusal refusal = Refusal::kAtOnce);
  // After a step that may have enlarged the storage of a tensor from so many bytes: the new bytes
  // are anything on the CPU, so they are filled.
  void fill_grown(size_t i, size_t bytes_before);
  // Adds a tensor of the app's own, as an upload.
  void add(const at::Tensor& data);
  // Compares the bits of one tensor of the pool.
  void fetch(size_t i);

  [[nodiscard]] const at::Tensor& host(size_t i) const { return host_.t[i]; }
  [[nodiscard]] size_t size() const { return host_.t.size(); }
  size_t any() { return static_cast<size_t>(below(static_cast<int64_t>(size()))); }
  // Any tensor of this element type.
  size_t any_of(at::ScalarType type);
  // A number in [0, end).
  int64_t below(int64_t end);
  int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }
  bool chance(int percent) { return below(100) < percent; }
  at::Tensor data(at::IntArrayRef sizes, at::ScalarType type);
  std::vector<int64_t> sizes(int64_t rank_max, int64_t size_max);
  at::ScalarType type();
  [[nodiscard]] bool tracked() const { return tracked_; }
  [[nodiscard]] bool over() const { return over_; }

 private:
  void draw_step();
  void fail(const std::string& what);
  void refuse(const Act& act, const std::string& why, bool may_come_later);
  [[nodiscard]] std::string geometry() const;
  void compare_geometry(size_t i);
  void compare_bits(const std::string& name, const at::Tensor& host, const at::Tensor& remote);
  void drop(size_t i);
  void compare_gradients();

  std::mt19937_64 random_;
  bool over_ = false;
  bool fetch_all_ = false;  // After every step: for who looks for the step that went wrong.
  bool complex_ = false;
  bool tracked_ = false;  // Tensors are made from leaves that require gradients.
  Pool host_{at::kCPU, {}};
  Pool remote_;
  std::vector<std::pair<at::Tensor, at::Tensor>> leaves_;
  std::vector<std::string> steps_;
  std::optional<std::string> difference_;
};

}  // namespace djinn::testing
