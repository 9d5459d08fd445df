package identity

import (
	"context"

	"github.com/dray-dev/dray/internal/diag"
)

type model struct{}

func (b *builder) likely(_ context.Context, p *pairing) error {
	return diag.At(p.match.At("probability"), "entity.match", "not supported yet")
}
