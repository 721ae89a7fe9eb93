package agent

import (
	"errors"

	"github.com/vmthunder/vmthunder/driver"
)

var (
	errLost      = errors.New("the volume's data is lost")
	errWaits     = errors.New("is still to be made")
	errTogether  = errors.New("none of the copies that belong together was made")
	errWrongPool = errors.New("this node's pool is not the one that holds the volume")
	errOtherPool = errors.New("was the disk exchanged?")
	errNoParent  = errors.New("no parent lets this node in")
)

// hopeless tells errors that do not go away by trying again.
func hopeless(err error) bool {
	return errors.Is(err, errLost) || errors.Is(err, errTogether) || errors.Is(err, errWrongPool) || errors.Is(err, driver.ErrUnusable) ||
		errors.Is(err, driver.ErrNoSpace) || errors.Is(err, driver.ErrForeign)
}

// worth tells whether it is worth while to try again soon what failed with err. Space may be
// made at any time; an image that is fetched in vain should not be fetched every few seconds.
func worth(err error) bool {
	return err != nil && (!hopeless(err) || errors.Is(err, driver.ErrNoSpace) && !errors.Is(err, errTogether))
}

// text of an error, "" of none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
