using Pandora.Linux;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>The example of an agent, against a real server and a real guest.</summary>
public sealed class AgentExampleTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task The_agent_corrects_a_fault_in_a_sandbox_that_ends_with_it()
    {
        var agent = Path.Combine(Repository.Root, "artifacts/bin/Agent/release/Agent");
        var output = await Command.RunAsync("nsenter", [$"--net={fixture.World.Host.Path}", agent, "http://127.0.0.1:8000"]);
        Assert.Matches(
            """
            ^> file_write
              wrote \d+ bytes; sandbox (?<id>\w+)
            > file_write
              wrote \d+ bytes; sandbox \k<id>
            > run
              exit code 1; sandbox \k<id>
            > file_search
              1 matches; sandbox \k<id>
            > file_read
              text, bytes 0 to \d+ of \d+; sandbox \k<id>
            > file_edit
              replaced 1 times, first in line 3; sandbox \k<id>
            > run
              exit code 0; sandbox \k<id>
            The test of the discount failed: /root/shop/prices\.py subtracted it as an amount\. I corrected that; the tests pass\.
            $
            """.TrimEnd(), output);
        Assert.Empty(await fixture.Server.Pandora.ListAsync());
    }
}
