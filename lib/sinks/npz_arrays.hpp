// Arrays of an .npz that describe the rows of others.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sinks/zip.hpp"

namespace m5 {

// Fixed-width text, UCS-4, padded with zeros; a byte that is no UTF-8 stands for itself (Latin-1).
// text_of returns the same object for equal texts of neighbours where it can.
void write_texts(ZipWriter& zip, const std::string& member, std::int64_t rows,
                 const std::function<const std::string&(std::int64_t)>& text_of);
void write_texts(ZipWriter& zip, const std::string& member, const std::vector<std::string>& texts);
void write_integers(ZipWriter& zip, const std::string& member, std::int64_t rows,
                    const std::function<std::int64_t(std::int64_t)>& value_of);

// Every text takes the room of the longest: throws Error(kInput) where so many rows with a name of
// so many bytes are too much.
void check_text_room(std::size_t longest, std::int64_t rows);

}  // namespace m5
