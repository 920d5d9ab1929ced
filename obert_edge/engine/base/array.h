// The little of a standard library the engine needs: libc++ is not linked, and nothing here throws.
#ifndef OBERT_EDGE_ARRAY_H
#define OBERT_EDGE_ARRAY_H

#include <stddef.h>
#include <stdlib.h>

namespace oe {

// A fixed number of zeroed plain values on the heap. T must be trivially copyable.
template <class T>
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { free(data_); }

  // Forgets the old values. False when there is no memory for them.
  [[nodiscard]] bool allocate(size_t count) {
    free(data_);
    data_ = static_cast<T*>(calloc(count ? count : 1, sizeof(T)));
    count_ = data_ ? count : 0;
    return data_ != nullptr;
  }

  // Keeps the first `count` values.
  void shrink(size_t count) { count_ = count; }

  size_t size() const { return count_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + count_; }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace oe
#endif
