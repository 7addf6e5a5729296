// flows reads NetworkPolicies and flows, and prints for each flow whether it is allowed.
//
// In: {"policies": [NetworkPolicy], "namespaces": [Namespace], "pods": [Pod], "flows": [{"from", "to", "port", "protocol"}]},
// where from and to are "namespace/name" of a pod, or an address. Out: a JSON array of booleans.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

type flow struct {
	From     string          `json:"from"`
	To       string          `json:"to"`
	Port     int             `json:"port"`
	Protocol corev1.Protocol `json:"protocol"`
}

type question struct {
	Policies   []*networkingv1.NetworkPolicy `json:"policies"`
	Namespaces []corev1.Namespace            `json:"namespaces"`
	Pods       []corev1.Pod                  `json:"pods"`
	Flows      []flow                        `json:"flows"`
}

func main() {
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	var asked question
	if err := decoder.Decode(&asked); err != nil {
		log.Fatalf("flows: %v", err)
	}
	cluster := newCluster(asked)
	policy := matcher.BuildNetworkPolicies(false, asked.Policies)
	verdicts := make([]bool, 0, len(asked.Flows))
	for number, one := range asked.Flows {
		traffic, err := cluster.traffic(one)
		if err != nil {
			log.Fatalf("flows: flow %d: %v", number, err)
		}
		verdicts = append(verdicts, policy.IsTrafficAllowed(traffic).IsAllowed())
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		log.Fatalf("flows: %v", err)
	}
}

type cluster struct {
	namespaces map[string]corev1.Namespace
	pods       map[string]corev1.Pod
}

func newCluster(asked question) cluster {
	known := cluster{map[string]corev1.Namespace{}, map[string]corev1.Pod{}}
	for _, namespace := range asked.Namespaces {
		known.namespaces[namespace.Name] = namespace
	}
	for _, pod := range asked.Pods {
		known.pods[pod.Namespace+"/"+pod.Name] = pod
	}
	return known
}

func (c cluster) traffic(asked flow) (*matcher.Traffic, error) {
	from, err := c.peer(asked.From)
	if err != nil {
		return nil, err
	}
	to, err := c.peer(asked.To)
	if err != nil {
		return nil, err
	}
	return &matcher.Traffic{
		Source:           from,
		Destination:      to,
		ResolvedPort:     asked.Port,
		ResolvedPortName: c.portName(asked),
		Protocol:         asked.Protocol,
	}, nil
}

func (c cluster) peer(end string) (*matcher.TrafficPeer, error) {
	if !strings.Contains(end, "/") {
		return &matcher.TrafficPeer{IP: end}, nil
	}
	pod, ok := c.pods[end]
	if !ok {
		return nil, fmt.Errorf("%s is none of the pods", end)
	}
	namespace, ok := c.namespaces[pod.Namespace]
	if !ok {
		return nil, fmt.Errorf("%s is none of the namespaces", pod.Namespace)
	}
	return &matcher.TrafficPeer{
		IP: pod.Status.PodIP,
		Internal: &matcher.InternalPeer{
			PodLabels:       pod.Labels,
			NamespaceLabels: namespace.Labels,
			Namespace:       pod.Namespace,
		},
	}, nil
}

// portName finds what a rule may call the port by: a name among the pod's containers.
func (c cluster) portName(asked flow) string {
	for _, container := range c.pods[asked.To].Spec.Containers {
		for _, port := range container.Ports {
			if int(port.ContainerPort) == asked.Port && port.Protocol == asked.Protocol {
				return port.Name
			}
		}
	}
	return ""
}
