package plan

import (
	"crypto/sha256"
	"encoding/hex"
)

// shortHash is the first 12 hexadecimal digits of SHA-256: long enough to approve one plan among thousands, short enough to type.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
