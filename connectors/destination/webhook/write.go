package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/httpx"
)

// Write posts a batch. A row whose values JSON cannot carry is rejected by itself; the others are sent.
func (w *webhook) Write(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	encoder, err := w.encoderFor(b.Schema)
	if err != nil {
		return nil, err
	}
	buffer := w.buffers.Get()
	outcomes := make([]destination.Outcome, len(b.Changes))
	sent := w.encode(buffer, encoder, b, outcomes)
	if sent == 0 {
		buffer.Release()
		return outcomes, nil
	}
	resp, err := w.http.Write(ctx, httpx.Request{
		Method: w.method, URL: w.url, Header: w.signed(buffer.Bytes), Body: buffer.Bytes, Release: buffer.Release, What: "webhook",
		Secrets: w.secrets,
	})
	if err != nil {
		return nil, batchError(err)
	}
	answered := outcomes
	if sent < len(outcomes) {
		answered = make([]destination.Outcome, sent)
	}
	readAnswer(resp, answered)
	for i := range answered {
		answered[i].Code, answered[i].Message = httpx.Mask(answered[i].Code, w.secrets), httpx.Mask(answered[i].Message, w.secrets)
	}
	if sent < len(outcomes) {
		fill(outcomes, answered)
	}
	return outcomes, nil
}

// encode writes the body and marks the rows that cannot be sent; it returns how many can.
func (w *webhook) encode(buffer *httpx.Buffer, encoder *encode.Encoder, b *destination.Batch, outcomes []destination.Outcome) (sent int) {
	body := head(buffer.Bytes, b)
	for i := range b.Changes {
		start := len(body)
		if sent > 0 {
			body = append(body, ',')
		}
		var err error
		if body, err = encoder.Change(body, &b.Changes[i]); err != nil {
			body = body[:start]
			outcomes[i] = destination.Outcome{Class: destination.Rejected, Code: "invalid_value", Message: err.Error()}
			continue
		}
		sent++
	}
	buffer.Bytes = append(body, end...)
	return sent
}

// head is what comes before the first change of a body, end what follows the last.
func head(dst []byte, b *destination.Batch) []byte {
	dst = append(dst, `{"sync":`...)
	dst = encode.String(dst, b.Run.Sync)
	dst = append(dst, `,"run_id":`...)
	dst = encode.String(dst, b.Run.ID)
	dst = append(dst, `,"object":`...)
	dst = encode.String(dst, b.Object)
	return append(dst, `,"changes":[`...)
}

const end = "]}"

// Sizes counts what Write would send: each change with a comma.
func (w *webhook) Sizes(b *destination.Batch) (base int, each []int) {
	each = make([]int, len(b.Changes))
	encoder, err := w.encoderFor(b.Schema)
	if err != nil {
		return 0, each
	}
	buffer := w.buffers.Get()
	defer buffer.Release()
	buffer.Bytes = head(buffer.Bytes, b)
	base = len(buffer.Bytes) + len(end)
	for i := range b.Changes {
		row, err := encoder.Change(buffer.Bytes[:0], &b.Changes[i])
		if err == nil {
			each[i] = len(row) + 1
		}
		buffer.Bytes = row
	}
	return base, each
}

func (w *webhook) encoderFor(s *destination.Schema) (*encode.Encoder, error) {
	if e := w.encoder.Load(); e != nil && e.schema == s {
		return e.Encoder, nil
	}
	e, err := encode.New(s)
	if err != nil {
		return nil, &destination.Error{Class: destination.Stop, Code: "field_conflict", Message: err.Error(), Hint: "give one of the fields another name", Err: err}
	}
	w.encoder.Store(&schemaEncoder{s, e})
	return e, nil
}

// signed gives the request's headers, with a signature over id.timestamp.body (standardwebhooks.com, scheme v1) where a secret
// is set. The id is made of the body, which is the same whenever the batch is sent again.
func (w *webhook) signed(body []byte) http.Header {
	if w.secret == nil {
		return w.header
	}
	sum := sha256.Sum256(body)
	id := "msg_" + hex.EncodeToString(sum[:16])
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	mac := hmac.New(sha256.New, w.secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	h := w.header.Clone()
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", timestamp)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return h
}

// batchError adds what the endpoint said to what HTTP said.
func batchError(err error) *destination.Error {
	e := destination.FromHTTP(err)
	var h *httpx.Error
	if errors.As(err, &h) {
		if said := words(h.Body); said != "" && e.Class == destination.Split {
			e.Message = said
		}
	}
	return e
}
