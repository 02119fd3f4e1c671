{{/* One of these labels is enough, as in NVIDIA's chart. Node feature discovery sets them. */}}
{{- define "gpu-sharing-plugin.affinity" -}}
{{- if .Values.nfdAffinity -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - {key: feature.node.kubernetes.io/pci-10de.present, operator: In, values: ["true"]}
      - matchExpressions:
          - {key: feature.node.kubernetes.io/cpu-model.vendor_id, operator: In, values: [NVIDIA]}
      - matchExpressions:
          - {key: nvidia.com/gpu.present, operator: In, values: ["true"]}
{{- else if .Values.affinity }}
{{- toYaml .Values.affinity }}
{{- end }}
{{- end }}
