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

const TRIES = 10; // in a row, with pauses up to 30 s: about three minutes

/** The close code where the server closed the connection; undefined where there was none, or it broke. */
function closeCode(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'number' ? code : undefined;
}

/** Whether it helps to connect again; the codes are told in docs/api/live.md. */
function comesBack(code: number | undefined): boolean {
  return code === undefined || (code >= 1000 && code < 4000 && code !== 1009) || code === 4410;
}

/** How long to wait before the next try: what the server asks for, else longer and longer, not all clients at once. */
function pauseMs(error: unknown, tries: number): number {
  const asked = /retryAfterMs=(\d+)/.exec(String((error as { reason?: unknown }).reason ?? ''))?.[1];
  return asked ? Number(asked) : Math.min(1000 * 2 ** tries, 30_000) * (0.5 + Math.random() / 2);
}

/** What ended a stream for good, with the code that stands before the colon of a close reason. */
function ended(error: unknown): Refused {
  if (Array.isArray(error)) return refused(error as Errors, 'refused');
  const code = closeCode(error);
  const reason = String((error as { reason?: unknown }).reason ?? '');
  const said = /^([A-Z_]+): (.*)/.exec(reason);
  if (said?.[1]) return new Refused(said[1], said[2] ?? reason);
  if (code) return new Refused('UNAVAILABLE', `the connection was closed: ${code} ${reason}`);
  return new Refused('UNAVAILABLE', error instanceof Error ? error.message : 'the server is not reached');
}

/** The cursor of a message whose operation asks for one. */
function cursorOf(data: object): string | undefined {
  const [told] = Object.values(data) as ({ cursor?: string } | null)[];
  return told?.cursor;
}

export class Aegate {
  private readonly http: GraphQLClient;
  private readonly socket: Client;
  private shown = ''; // the token of the last connection

  /** `token` is called for each request and each connection: give the one that is valid now. */
  constructor(
    url: string,
    private readonly token: () => string,
  ) {
    this.http = new GraphQLClient(url, { headers: () => ({ Authorization: `Bearer ${token()}` }) });
    this.socket = createClient({
      url: url.replace(/^http/, 'ws'),
      webSocketImpl: WebSocket,
      connectionParams: () => {
        this.shown = token();
        return { authorization: `Bearer ${this.shown}` };
      },
      retryAttempts: 0, // `watch` connects again itself: it knows its cursor
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

  /**
   * Watch: what is now first, then what changes. It ends when the loop over it ends. When the connection breaks it
   * connects again; an operation that has `$after` and asks for `cursor` goes on there. What cannot be mended is thrown.
   */
  async *watch<Data extends object, Given extends Record<string, unknown>>(
    operation: TypedDocumentNode<Data, Given>,
    variables: Given,
  ): AsyncGenerator<Data, void> {
    let after: { after?: string } = {};
    for (let tries = 0; ; tries += 1) {
      try {
        for await (const message of this.socket.iterate<Data>({ query: print(operation), variables: { ...variables, ...after } })) {
          if (message.errors || !message.data) throw refused(message.errors, 'a message without data');
          tries = 0;
          const cursor = cursorOf(message.data);
          if (cursor) after = { after: cursor };
          yield message.data;
        }
        return;
      } catch (error) {
        if (error instanceof Refused) throw error;
        const renewed = closeCode(error) === 4403 && this.token() !== this.shown;
        if (Array.isArray(error) || tries >= TRIES || !(renewed || comesBack(closeCode(error)))) throw ended(error);
        const ms = pauseMs(error, tries);
        await new Promise((go) => setTimeout(go, ms));
      }
    }
  }

  async close(): Promise<void> {
    await this.socket.dispose();
  }
}
