using System.Globalization;
using System.Text;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.HostTests;

// Length of code, descriptors and memory.
public abstract partial class CommandContract
{
    // Bytes of code: below and above what one SSH request and what one argument of a program can hold (128 KiB: execve(2)).
    private static readonly int[] Lengths = [0, 7_000, 9_000, 100_000, 140_000, Limits.MaxCodeBytes];

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task Code_of_every_length_has_the_same_messages_and_the_same_return(string? user)
    {
        const string Code = """
            echo "$0 $# ${#BASH_SOURCE[@]} ${BASH_SOURCE[0]-none} $LINENO"
            nosuchcommand
            return 3; echo "return gave $?"
            f() { return 4; }; f; echo "f gave $? at $LINENO"
            set -- a b; echo "$# $*"; shift 3; echo $?
            echo ${nothing?is not set}
            echo never
            """;
        var expected =
            "bash 0 0 none 1\nreturn gave 2\nf gave 4 at 4\n2 a b\n1\n127\n"
            + "bash: line 2: nosuchcommand: command not found\n"
            + "bash: line 3: return: can only `return' from a function or sourced script\n"
            + "bash: line 6: nothing: is not set\n";
        foreach (var length in Lengths)
        {
            var result = await RunAsync(Pad(Code, length), As(user, stdin: "not the code"));
            Assert.Equal((length, expected), (length, $"{result.Stdout}{result.ExitCode}\n{result.Stderr}"));
            // What is wrong with its grammar is found before any of it is run, or when bash gets to it.
            var wrong = await RunAsync(Pad("echo one\nif", length) + "\n(", As(user));
            Assert.Equal((length, 2), (length, wrong.ExitCode));
            Assert.Contains("syntax error", wrong.Stderr);
            Assert.StartsWith("bash: ", wrong.Stderr);
            Assert.Equal("not the code", await OutputAsync(Pad("cat", length), As(user, stdin: "not the code")));
            Assert.Equal(143, (await RunAsync(Pad("trap 'kill 0' EXIT; sleep 60 & exit 0", length), As(user))).ExitCode);
        }

        static string Pad(string code, int length) =>
            length == 0 ? code : $"{code}\n#{new string('x', length - Encoding.UTF8.GetByteCount(code) - 2 - 2)}";
    }

    [Theory]
    [MemberData(nameof(Users))]
    public async Task Every_user_may_open_thousands_of_files(string? user)
    {
        Assert.Equal("65536 1048576\n", await OutputAsync("echo $(ulimit -Sn) $(ulimit -Hn)", As(user)));
        Assert.Equal("1048576\n", await OutputAsync("ulimit -n 1048576; ulimit -n", As(user)));
        Assert.Equal("2000\n", await OutputAsync(
            "mkdir /tmp/many; cd /tmp/many; python3 -c 'print(len([open(str(i), \"w\") for i in range(2000)]))'; rm -r /tmp/many",
            As(user)));
        Assert.Equal("60000\n", await OutputAsync("python3 -c 'import os; print(len([os.dup(0) for i in range(60000)]))'", As(user)));
        var tooMany = await RunAsync("python3 -c 'import os; [os.dup(0) for i in range(65536)]'", As(user));
        Assert.Contains("Too many open files", tooMany.Stderr);
    }

    [Fact]
    public Task A_command_that_fills_the_memory_is_killed_and_says_so() => FillMemoryAsync(null);

    private protected async Task FillMemoryAsync(string? user)
    {
        var result = await RunAsync("exec tail /dev/zero", As(user));
        await AssertOutOfMemoryAsync(result, 137);
        result = await RunAsync("python3 -c 'a = []\nwhile True: a.append(bytearray(1 << 20))'", As(user));
        await AssertOutOfMemoryAsync(result, 137);
        // A process of it, and not its shell.
        result = await RunAsync("tail /dev/zero; echo after $?", As(user));
        await AssertOutOfMemoryAsync(result, 0);
        Assert.Equal("after 137\n", result.Stdout);
        result = await RunAsync(
            "setsid -f sh -c 'tail /dev/zero; echo > /tmp/died'; until [ -e /tmp/died ]; do sleep 0.5; done; rm /tmp/died", As(user));
        await AssertOutOfMemoryAsync(result, 0);
        Assert.Equal("on\n", await OutputAsync("echo on", As(user)));
    }

    private protected async Task AssertOutOfMemoryAsync(ExecResult result, int exitCode)
    {
        Assert.Equal((exitCode, true), (result.ExitCode, result.IsOutOfMemory));
        var words = (await OutputAsync("grep MemTotal /proc/meminfo")).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        var total = long.Parse(words[1], CultureInfo.InvariantCulture) * 1024;
        // The guest's memory, or a cgroup's limit not much below that.
        Assert.InRange(result.MemoryLimit!.Value, total / 2, total * 2);
    }
}
