package httpx

import "sync"

// Buffers lends memory for the bodies of requests. The zero value is ready. It is safe for concurrent use.
type Buffers struct{ pool sync.Pool }

// Buffer is memory on loan. Append to Bytes, which is empty at first.
type Buffer struct {
	Bytes []byte
	of    *Buffers
}

// Get lends a buffer. Give it back with Release, or as Request.Release; one that is not given back is garbage and no more.
func (b *Buffers) Get() *Buffer {
	if buffer, ok := b.pool.Get().(*Buffer); ok {
		buffer.Bytes = buffer.Bytes[:0]
		return buffer
	}
	return &Buffer{Bytes: make([]byte, 0, 64<<10), of: b}
}

// Release gives the buffer back.
func (b *Buffer) Release() { b.of.pool.Put(b) }
