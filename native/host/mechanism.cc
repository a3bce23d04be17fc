#include "host/mechanism.h"

namespace pkcs11ha {
namespace {

enum class Field : std::uint8_t { number = 1, flag = 2, inlined = 3, pointed = 4, returned = 5 };

void align(std::vector<std::uint8_t>& structure, std::size_t alignment) {
  structure.resize((structure.size() + alignment - 1) / alignment * alignment);
}

void append(std::vector<std::uint8_t>& structure, const void* value, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(value);
  structure.insert(structure.end(), bytes, bytes + size);
}

}  // namespace

Mechanism Mechanism::read(Reader& reader, bool outlives) {
  Mechanism result;
  auto& structure = result.parameter_;
  result.mechanism_.mechanism = reader.u64();
  const std::uint32_t fields = reader.u32();
  bool hasWords = false;
  for (std::uint32_t i = 0; i < fields; ++i) {
    const auto kind = static_cast<Field>(reader.u8());
    if (kind == Field::flag) {
      structure.push_back(reader.u8());
    } else if (kind == Field::inlined) {
      const Bytes bytes = reader.sized();
      append(structure, bytes.data(), bytes.size());
    } else if (kind == Field::number) {
      const CK_ULONG value = reader.u64();
      align(structure, alignof(CK_ULONG));
      append(structure, &value, sizeof value);
      hasWords = true;
    } else if (kind == Field::pointed || kind == Field::returned) {
      Bytes bytes = reader.sized();
      if (outlives) bytes = result.kept_.emplace_back(bytes.begin(), bytes.end());
      const void* pointer = bytes.empty() ? nullptr : bytes.data();
      align(structure, alignof(void*));
      append(structure, &pointer, sizeof pointer);
      hasWords = true;
      if (kind == Field::returned) result.returned_.push_back(bytes);
    } else {
      throw Malformed("unknown field of a mechanism's parameter");
    }
  }
  if (hasWords) align(structure, alignof(CK_ULONG));
  result.mechanism_.ulParameterLen = structure.size();
  result.mechanism_.pParameter = structure.empty() ? nullptr : structure.data();
  return result;
}

void Mechanism::writeReturned(Writer& writer) const {
  writer.u32(static_cast<std::uint32_t>(returned_.size()));
  for (const Bytes& bytes : returned_) writer.sized(bytes);
}

}  // namespace pkcs11ha
