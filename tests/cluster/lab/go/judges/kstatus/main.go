// kstatus reads a JSON array of objects and prints a JSON array of what kstatus, with it Flux, says of each.
package main

import (
	"encoding/json"
	"log"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		log.Fatalf("kstatus: an array of objects is needed: %v", err)
	}
	verdicts := make([]verdict, 0, len(objects))
	for number, object := range objects {
		found, err := judge(object)
		if err != nil {
			log.Fatalf("kstatus: object %d: %v", number, err)
		}
		verdicts = append(verdicts, verdict{found.Status.String(), found.Message})
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		log.Fatalf("kstatus: %v", err)
	}
}

// judge decodes as clients of Kubernetes do: integers are int64, which kstatus insists on.
func judge(object []byte) (*status.Result, error) {
	decoded := &unstructured.Unstructured{}
	if err := decoded.UnmarshalJSON(object); err != nil {
		return nil, err
	}
	return status.Compute(decoded)
}
