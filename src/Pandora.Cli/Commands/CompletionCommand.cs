using System.CommandLine;

namespace Pandora.Cli.Commands;

/// <summary><c>completion</c>: a script by which a shell completes this program's command lines.</summary>
internal static class CompletionCommand
{
    // Commands of the entry script, which this program does not know.
    private const string Others = "up down restart template prove doctor firecracker config test bench";

    // The program is asked for a line that begins with its own name, up to the cursor.
    private const string Bash = $$"""
        _pandora() {
            local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} found
            line="pandora-cli${line#"${COMP_WORDS[0]}"}"
            found=$("${COMP_WORDS[0]}" "[suggest:${#line}]" "$line" 2> /dev/null)
            if [ "$COMP_CWORD" = 1 ]; then found="$found {{Others}}"; fi
            COMPREPLY=($(compgen -W "$found" -- "$word"))
        }
        complete -o default -F _pandora pandora
        """;

    private const string Zsh = $$"""
        #compdef pandora
        _pandora() {
            local program=${words[1]/#\~/$HOME} line
            local -a found
            line="pandora-cli ${(j: :)words[2,CURRENT]}"
            found=("${(@f)$("$program" "[suggest:${#line}]" "$line" 2> /dev/null)}")
            (( CURRENT == 2 )) && found+=({{Others}})
            compadd -- ${found:#}
        }
        compdef _pandora pandora
        """;

    public static Command Create()
    {
        var shell = new Argument<string>("shell") { Description = "bash or zsh" };
        shell.AcceptOnlyFromAmong("bash", "zsh");
        var command = new Command(
            "completion", "Print a script for completion: source <(./pandora completion bash), or the same with zsh after compinit")
        {
            shell,
        };
        command.SetAction(result => Console.WriteLine(result.GetRequiredValue(shell) == "bash" ? Bash : Zsh));
        return command;
    }
}
