{{/*
Whether pods run only on nodes that are labelled as having GPUs; empty: no. By default, unless other values choose the
nodes: a node that has no such label would get no pod, and nothing would say why.
*/}}
{{- define "gpu-sharing-plugin.onGpuNodes" -}}
{{- $own := dig "nodeAffinity" dict .Values.affinity }}
{{- if kindIs "bool" .Values.nfdAffinity }}
{{- if and .Values.nfdAffinity (not $own) }}true{{ end }}
{{- else if not (or .Values.nodeSelector $own .Values.simulatedNode) }}true{{ end }}
{{- end }}

{{/*
One of these labels is enough. Node feature discovery sets the first three, depending on its settings, and the fourth;
NVIDIA's chart asks for the first, the fourth and the last, which the GPU operator sets.
*/}}
{{- define "gpu-sharing-plugin.gpuNodes" -}}
requiredDuringSchedulingIgnoredDuringExecution:
  nodeSelectorTerms:
    - matchExpressions:
        - {key: feature.node.kubernetes.io/pci-10de.present, operator: In, values: ["true"]}
    - matchExpressions:
        - {key: feature.node.kubernetes.io/pci-0302_10de.present, operator: In, values: ["true"]}
    - matchExpressions:
        - {key: feature.node.kubernetes.io/pci-0300_10de.present, operator: In, values: ["true"]}
    - matchExpressions:
        - {key: feature.node.kubernetes.io/cpu-model.vendor_id, operator: In, values: [NVIDIA]}
    - matchExpressions:
        - {key: nvidia.com/gpu.present, operator: In, values: ["true"]}
{{- end }}

{{- define "gpu-sharing-plugin.affinity" -}}
{{- $affinity := deepCopy .Values.affinity }}
{{- if include "gpu-sharing-plugin.onGpuNodes" . }}
{{- $_ := set $affinity "nodeAffinity" (include "gpu-sharing-plugin.gpuNodes" . | fromYaml) }}
{{- end }}
{{- with $affinity }}{{ toYaml . }}{{ end }}
{{- end }}
