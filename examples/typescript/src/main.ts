// AEGATE_TOKEN=… node build/main.js http://127.0.0.1:8080/graphql find "Miller"
//                                                               hold ID "scanner is being mended"
//                                                               watch 3
import { Aegate, Refused } from './client.js';
import { graphql } from './gql/gql.js';
import type { HoldItemMutation } from './gql/graphql.js';

const FIND = graphql(`
  query FindStudies($search: String!) {
    studies(search: $search, first: 20) {
      nodes {
        id
        description
        instanceCount
        modalities
        patient {
          name
        }
      }
      pageInfo {
        hasNextPage
        endCursor
      }
    }
  }
`);

const HOLD = graphql(`
  mutation HoldItem($id: ID!, $reason: String) {
    holdQueueItems(selection: { ids: [$id] }, reason: $reason) {
      __typename
      ... on QueueItemsChanged {
        changed {
          id
          state
          version
        }
        left {
          id
          because
        }
      }
      ... on ValidationProblem {
        fieldErrors {
          field
          message
        }
      }
      ... on Problem {
        code
        message
      }
    }
  }
`);

const WATCH = graphql(`
  subscription WatchQueue($after: String) {
    queue(after: $after) {
      snapshot
      nodes {
        id
        state
        destinationAe
        whyNotMoving {
          code
          text
        }
      }
      left
      cursor
    }
  }
`);

/** Say in one line what came of it. The compiler knows what each kind of answer holds. */
function told(result: HoldItemMutation['holdQueueItems']): string {
  switch (result.__typename) {
    case 'QueueItemsChanged': {
      const held = result.changed.map((item) => `${item.id} is ${item.state}, version ${item.version}`);
      const left = result.left.map((item) => `${item.id} was left: ${item.because}`);
      return [...held, ...left].join('; ');
    }
    case 'ValidationProblem':
      return `refused: ${result.fieldErrors.map((fault) => `${fault.field} ${fault.message}`).join('; ')}`;
    case 'OperationStarted':
      return 'it goes on by itself, as an operation';
    default: // the other problems, and those that a later version adds
      return `refused: ${result.code}: ${result.message}`;
  }
}

async function main([url, command, ...rest]: string[]): Promise<void> {
  const token = process.env.AEGATE_TOKEN;
  if (!url || !token) throw new Refused('UNAUTHENTICATED', 'give the URL, and a token in AEGATE_TOKEN');
  const aegate = new Aegate(url, () => token);
  try {
    if (command === 'find') {
      const { studies } = await aegate.ask(FIND, { search: rest[0] ?? '' });
      for (const study of studies.nodes) {
        console.log(`${study.modalities.join('/')} ${study.description}: ${study.instanceCount} images`);
      }
    } else if (command === 'hold') {
      const { holdQueueItems } = await aegate.ask(HOLD, { id: rest[0] ?? '', reason: rest[1] ?? null });
      console.log(told(holdQueueItems));
    } else {
      let left = Number(rest[0] ?? '1');
      for await (const { queue } of aegate.watch(WATCH, {})) {
        const states = queue.nodes.map((item) => `${item.destinationAe} ${item.state}`).sort();
        console.log(`${queue.snapshot ? 'now' : 'then'}: ${states.join(', ')}`);
        left -= 1;
        if (left === 0) break;
      }
    }
  } finally {
    await aegate.close();
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof Refused ? `${error.code}: ${error.message}` : error);
  process.exitCode = 1;
});
