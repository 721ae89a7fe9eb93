package scheduler

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// importEvent is the kind of message for an import that failed at its origin. What is
// known of why is text, in which a full disk says "no space left", and an image that is
// larger than what is served that it is "above the limit".
func importEvent(why string) model.Event {
	detail := model.DetailUnknownError
	if strings.Contains(why, "no space left") || strings.Contains(why, "above the limit") {
		detail = model.DetailNoSpaceForImage
	}
	return model.NewEvent(model.ResourceVolume, model.ActionCopyImageToVolume, detail)
}

// noRoom is the error of a volume that has no home yet and finds none.
type noRoom struct{ error }

func (e noRoom) Unwrap() error { return e.error }

// refused tells a volume's owner why it can't be attached, if it is for want of room: the
// owner sees no more of it than a server that fails.
func (s *Service) refused(ctx context.Context, attachment uuid.UUID, why error) {
	if !errors.As(why, new(noRoom)) {
		return
	}
	_, v, err := s.store.Attachment(ctx, attachment)
	if err == nil {
		event := model.NewEvent(model.ResourceVolume, model.ActionAttachVolume, model.DetailNoBackend)
		err = s.store.AddMessage(ctx, model.VolumeMessage(event, &v, strings.TrimPrefix(why.Error(), model.ErrInvalid.Error()+": ")))
	}
	if err != nil {
		s.log.WithError(err).WithField("attachment", attachment).Warn("the volume's owner is not told why it can't be attached")
	}
}
