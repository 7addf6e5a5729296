// One way to ask and change (HTTP), one to watch (WebSocket), both typed by the operation that they are given.
import type { TypedDocumentNode } from '@graphql-typed-document-node/core';
import { print } from 'graphql';
import { ClientError, GraphQLClient } from 'graphql-request';
import { createClient, type Client } from 'graphql-ws';
import { WebSocket } from 'ws'; // from Node 22 on, and in browsers, it is there without

/** What the API refused; `code` is for programs: see docs/api/errors.md. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

type Errors = readonly { message: string; extensions?: Record<string, unknown> }[];

function refused(errors: Errors | undefined, otherwise: string): Refused {
  const error = errors?.[0];
  const code = error?.extensions?.code;
  return new Refused(typeof code === 'string' ? code : 'INTERNAL', error?.message ?? otherwise);
}

export class Aegate {
  private readonly http: GraphQLClient;
  private readonly socket: Client;

  /** `token` is called for each request and each connection: give the one that is valid now. */
  constructor(url: string, token: () => string) {
    this.http = new GraphQLClient(url, { headers: () => ({ Authorization: `Bearer ${token()}` }) });
    this.socket = createClient({
      url: url.replace(/^http/, 'ws'),
      webSocketImpl: WebSocket,
      connectionParams: () => ({ authorization: `Bearer ${token()}` }),
      retryAttempts: 10, // a server that is being stopped comes back
    });
  }

  /** Ask or change. A problem that a change answers with is data, not an exception: look at `__typename`. */
  async ask<Data, Given extends Record<string, unknown>>(operation: TypedDocumentNode<Data, Given>, variables: Given): Promise<Data> {
    try {
      return await this.http.request<Data>(operation, variables);
    } catch (error) {
      if (error instanceof ClientError) throw refused(error.response.errors, `HTTP ${error.response.status}`);
      throw error;
    }
  }

  /** Watch: what is now first, then what changes. It ends when the loop over it ends. */
  async *watch<Data, Given extends Record<string, unknown>>(
    operation: TypedDocumentNode<Data, Given>,
    variables: Given,
  ): AsyncGenerator<Data, void> {
    for await (const message of this.socket.iterate<Data>({ query: print(operation), variables })) {
      if (message.errors || !message.data) throw refused(message.errors, 'a message without data');
      yield message.data;
    }
  }

  async close(): Promise<void> {
    await this.socket.dispose();
  }
}
