#include "host/template.h"

#include <cstring>

namespace pkcs11ha {
namespace {

std::size_t words(std::size_t size) { return (size + alignof(CK_ULONG) - 1) / alignof(CK_ULONG); }

// CKA_VALUE is a byte string, which needs no alignment, and may be a secret, of which no copy is made.
bool isCopied(const CK_ATTRIBUTE& attribute) { return attribute.type != CKA_VALUE && attribute.ulValueLen != 0; }

}  // namespace

Template Template::read(Reader& reader) {
  Template result;
  std::size_t size = 0;
  const std::uint32_t count = reader.u32();
  for (std::uint32_t i = 0; i < count; ++i) {
    const CK_ATTRIBUTE_TYPE type = reader.u64();
    const Bytes value = reader.sized();
    result.attributes_.push_back({type, value.empty() ? nullptr : value.data(), value.size()});
    if (isCopied(result.attributes_.back())) size += words(value.size());
  }
  result.storage_.resize(size);
  CK_ULONG* at = result.storage_.data();
  for (CK_ATTRIBUTE& attribute : result.attributes_) {
    if (!isCopied(attribute)) continue;
    std::memcpy(at, attribute.pValue, attribute.ulValueLen);
    attribute.pValue = at;
    at += words(attribute.ulValueLen);
  }
  return result;
}

void Template::set(const Template& others) {
  for (const CK_ATTRIBUTE& other : others.attributes_) {
    std::erase_if(attributes_, [&other](const CK_ATTRIBUTE& own) { return own.type == other.type; });
    attributes_.push_back(other);
  }
}

}  // namespace pkcs11ha
