// Types of the operations in src, from the schema that is committed beside the API. In a project of your own that path
// leads nowhere: name schema.graphql of the version that you talk to, here or in AEGATE_SCHEMA. The URL of your server
// needs a token beside it: schema: [{ 'https://aegate.example/graphql': { headers: { Authorization: 'Bearer …' } } }].
import type { CodegenConfig } from '@graphql-codegen/cli';

const config: CodegenConfig = {
  schema: process.env.AEGATE_SCHEMA ?? '../../graphql_api/schema.graphql',
  documents: ['src/**/*.ts', '!src/gql/**'],
  importExtension: '.js',
  generates: {
    'src/gql/': {
      preset: 'client',
      presetConfig: {
        fragmentMasking: false,
        // For a server that runs trusted documents alone: see docs/api/limits.md.
        persistedDocuments: { mode: 'embedHashInDocument', hashAlgorithm: 'sha256' },
      },
      config: {
        enumsAsTypes: true,
        useTypeImports: true,
        scalars: { BigInt: 'number', DateTime: 'string', JSON: 'unknown', StringMap: 'Record<string, string | null>' },
      },
    },
  },
};

export default config;
